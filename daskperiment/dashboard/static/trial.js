// One trial in full.

import { artifact, preview } from "./artifacts.js";
import { Charts, shapeOf } from "./curves.js";
import { badge, diff, foldable, h, notice, put, row, table } from "./dom.js";
import { load } from "./bokeh.js";
import { ask, of } from "./state.js";
import { ago, duration, moment, plural, size, when } from "./format.js";
import { graph, timeline } from "./drawing.js";

export function trial(page) {
  let drawn = "";
  let ended = "";
  let shownTrial = "";
  let opened = new Set();
  let drawnOnce = false;
  let shape = "";
  let parts = new Map();
  const place = h("section", { class: "curves", hidden: true });
  const charts = new Charts();

  async function refresh() {
    const { state } = page;
    const mark = `${state.experiment} ${state.trial}`;
    if (ended === mark) return false;
    if (!/^\d{1,15}$/.test(state.trial ?? "")) {
      put(page.main, h("h1", { class: "hidden" }, state.experiment), notice("error", "No such trial", "A trial has a number from 1."));
      ended = mark;
      drawn = "";
      return;
    }
    // Nobody waits for both, one after the other: what draws the curves is on its way meanwhile.
    const drawing = askCurves();
    drawing.then((told) => told.charts.length && load()).catch(() => {});
    const found = await ask(of(state.experiment, `trials/${state.trial}`), {}, page.signal());
    const text = JSON.stringify({ ...found, elapsed: 0 });
    if (text === drawn) {
      for (const one of page.main.querySelectorAll(".node[data-since] .since, .unfinished time")) one.textContent = ago(Number(one.closest("[data-since]").dataset.since));
    } else {
      if (shownTrial !== mark) forget();
      shownTrial = mark;
      drawn = text;
      draw(found);
    }
    const clock = page.main.querySelector(".elapsed");
    if (clock) clock.textContent = duration(found.elapsed);
    await curves(await drawing);
    if (found.status !== "running") ended = mark;
  }

  /** Another trial is shown: nothing that stands here is of it. */
  function forget() {
    parts = new Map();
    charts.clear();
    shape = "";
    place.hidden = true;
    put(place);
  }

  /** Draw the parts of which something changed; the others, and the curves, stay as they are. */
  function draw(found) {
    const { main } = page;
    opened = new Set([...main.querySelectorAll("details[open][data-name]")].map((one) => one.dataset.name));
    const key = main.contains(document.activeElement) ? document.activeElement.closest("[data-key]")?.dataset.key : undefined;
    const top = scrollY;
    const nodes = PARTS.flatMap(([name, facts, make]) => {
      const mark = JSON.stringify(facts.map((fact) => found[fact]));
      if (parts.get(name)?.mark !== mark) parts.set(name, { mark, nodes: [make(found)].flat().filter(Boolean) });
      return parts.get(name).nodes;
    });
    const wanted = new Set(nodes);
    for (const child of [...main.childNodes]) if (!wanted.has(child)) child.remove();
    nodes.forEach((node, at) => { if (main.childNodes[at] !== node) main.insertBefore(node, main.childNodes[at] ?? null); });
    drawnOnce = true;
    scrollTo(0, top);
    if (key !== undefined && !main.contains(document.activeElement)) [...main.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus({ preventScroll: true });
  }

  /** The curves of the trial, without the figures of those that are drawn already. */
  function askCurves(again = shape && shownTrial === `${page.state.experiment} ${page.state.trial}`) {
    const query = { trials: page.state.trial, theme: page.theme(), ...(again ? { data: "1" } : {}) };
    return ask(of(page.state.experiment, "metrics"), query, page.signal());
  }

  /** Draw the curves; of a trial that runs they grow, with the last points beside them. */
  async function curves(found) {
    const now = shapeOf(found) + page.theme();
    if (shape === now) { charts.update(found); last(found); return; }
    const full = found.charts.every((one) => one.item) ? found : await askCurves(false);
    shape = now;
    place.hidden = !full.charts.length;
    const grid = h("div", { class: "charts" });
    put(place, h("h2", { class: "hidden" }, "Curves"), grid);
    last(full);
    await charts.show(full, grid);
  }

  function last(found) {
    const place = page.main.querySelector(".lastpoints");
    if (place) put(place, found.charts.filter((one) => !one.system).flatMap((one) => one.summary.map((each) => h("li", {}, h("span", { class: "mono" }, one.metric), ` ${each.last}, ${plural(each.points, "point")}`))));
  }

  const heading = (found) => h("div", { class: "heading wide" }, h("h1", {}, `Trial ${found.trial}`), badge(found.status),
    found.said.name ? h("span", { class: "mono" }, found.said.name) : null,
    h("nav", { class: "pager", "aria-label": "Trials" },
      found.trial > 1 ? h("a", { class: "button", ...page.to({ trial: found.trial - 1 }), "data-key": "before" }, `‹ ${found.trial - 1}`) : null,
      found.trial < found.latest && h("a", { class: "button", ...page.to({ trial: found.trial + 1 }), "data-key": "after" }, `${found.trial + 1} ›`)));

  const remarks = (found) => (found.said.notes.length ? card("Notes", h("dl", { class: "facts" }, found.said.notes.map((one) => [h("dt", {}, one.user, one.time === null ? null : h("div", { class: "quiet" }, moment(one.time))), h("dd", {}, one.text)]))) : null);

  const noticed = (found) => (found.notes.length ? card("Noticed", h("ul", {}, found.notes.map((one) => h("li", {}, `Step ${one.key} returned another output than in trial ${one.earlier}, ${one.reads.length ? `having read ${one.reads.join(", ")}` : "for no recorded reason: it is not pure"}.`)))) : null);

  const graphOf = (found) => card("Graph", found.graph?.nodes.length ? graph(found) : h("p", { class: "quiet" }, found.graph?.steps ? `The graph has ${plural(found.graph.steps, "step")}: too many to draw. The table of steps tells of each.` : "This trial has no recorded graph."));

  const times = (found) => card("Timeline", found.steps.length ? timeline(found) : h("p", { class: "quiet" }, found.status === "running" ? "No step has ended yet." : "No step ran to an end."));

  function running(found) {
    const ones = Object.entries(found.unfinished);
    if (!ones.length) return null;
    return h("section", { class: "card unfinished" }, h("h2", {}, "Now"), h("ul", { class: "plainlist" }, ones.map(([key, one]) => h("li", { "data-since": one.since },
      h("span", { class: "mono" }, key), one.since === null ? " waits for its inputs" : [` ${one.state === "ready" ? "ready to run" : one.state} since ${moment(one.since)}, `, h("time", when(one.since), ago(one.since))]))),
    h("ul", { class: "plainlist lastpoints quiet", "aria-label": "Last points" }));
  }

  const lines = (found) => card("Lines to paste", h("pre", { tabindex: "0" }, found.lines.join("\n")));

  function outcome(found) {
    const rows = [
      found.said.tags.length ? ["Tags", found.said.tags.join(", ")] : null,
      found.said.archived ? ["Archived", "left out of tables"] : null,
      ["Started", moment(found.started)],
      found.finished ? ["Finished", moment(found.finished)] : null,
      found.elapsed !== null ? ["Duration", h("span", { class: "elapsed" }, duration(found.elapsed))] : null,
      ["Result step", h("span", { class: "mono" }, found.step)],
      ["Seed", found.seed],
      ["Process", `${found.pid} of ${found.user} on ${found.host}`],
      found.sweep ? ["Sweep", found.sweep] : null,
      found.copied_from ? ["Copied from", found.copied_from] : null,
      found.source ? ["Reproduces", h("a", page.to({ trial: found.source }), `Trial ${found.source}`)] : null,
      found.resumes ? ["Goes on from", h("a", page.to({ trial: found.resumes }), `Trial ${found.resumes}`)] : null,
      found.resumed_by.length ? ["Gone on with", found.resumed_by.map((id) => [" ", h("a", page.to({ trial: id }), `Trial ${id}`)])] : null,
    ].filter(Boolean);
    return card("Result", result(found), h("dl", { class: "facts" }, rows.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])),
      h("p", {}, h("a", { class: "button", ...page.to({ tab: "metrics", trials: [found.trial] }) }, "Metrics"), " ",
        found.trial > 1 ? h("a", { class: "button", ...page.to({ tab: "compare", trials: [found.trial - 1, found.trial] }) }, `Compare with ${found.trial - 1}`) : null));
  }

  function result(found) {
    if (found.result) {
      return [h("pre", { class: "result", tabindex: "0" }, found.result.text),
        h("p", { class: "quiet" }, found.result.class ?? found.result.type, found.result.plain ? "" : `, ${size(found.result.size)}`, found.result.reason ? `; not kept: ${found.result.reason}` : "")];
    }
    if (found.status === "running") return h("p", { class: "quiet" }, "Still running: the result stands here when there is one.");
    if (found.status === "lost") return h("p", { class: "problem" }, `Lost: ${found.reason}. It never said how it ended; what it had recorded stands below.`);
    return h("p", { class: "quiet" }, "No result.");
  }

  const given = (found) => card("Parameters", found.parameters.length
    ? table([], found.parameters.map((one) => row(one.name, [foldable(one.text), one.plain ? null : h("span", { class: "quiet" }, ` ${one.type}, ${size(one.size)}`)])), { "aria-label": "Parameters", class: "pairs" })
    : h("p", { class: "quiet" }, "This trial took no parameters."));

  const failure = (found) => (found.failure ? card("Failure", h("p", { class: "problem" }, h("strong", {}, found.failure.description)),
    found.failure.step ? h("p", { class: "quiet" }, "in step ", h("span", { class: "mono" }, found.failure.step)) : null,
    found.failure.traceback ? h("pre", { class: "traceback", tabindex: "0" }, found.failure.traceback) : null) : null);

  function steps(found) {
    if (!found.steps.length) return null;
    const headers = ["Step", "Status", "Wall time", "CPU time", "Peak memory", "Where", "Notes"];
    return card("Steps", table(headers, found.steps.map((one) => h("tr", { id: `step-${one.key}` },
      h("th", { scope: "row", class: "mono" }, one.key, one.arguments.length ? h("div", { class: "quiet" }, one.arguments.join(", ")) : null), h("td", {}, badge(one.status)),
      h("td", { class: "number" }, duration(one.wall)), h("td", { class: "number" }, duration(one.cpu)),
      h("td", { class: "number" }, size(one.peak)), h("td", { class: "quiet roomy" }, one.lane), h("td", { class: "quiet wrap" }, one.reused ? h("p", {}, "reused from ", h("a", page.to({ trial: one.reused }), `trial ${one.reused}`)) : null, notes(one)))), { "aria-label": "Steps" }),
    found.steps_left_out ? h("p", { class: "quiet" }, `${plural(found.steps_left_out, "more step run")} left out.`) : null);
  }

  function notes(one) {
    return [one.stochastic ? "drew random numbers" : "",
      one.note ? `not checkable: ${one.note}` : "", one.reason ?? "", one.failure ?? "",
      one.changed.length ? `changed ${one.changed.join(", ")} in place` : "", one.files.length ? `read ${one.files.join(", ")}` : "",
      one.variables.length ? `read the environment variables ${one.variables.join(", ")}` : "", one.metrics.length ? `metrics ${one.metrics.join(", ")}` : ""].filter(Boolean).join("; ");
  }

  const artifacts = (found) => (found.artifacts.length ? card("Artifacts", h("div", { class: "gallery" },
    found.artifacts.map((one) => artifact(page.state.experiment, found.trial, one)))) : null);

  const log = (found) => (found.log ? card("Log", h("pre", { class: "source", tabindex: 0 }, found.log)) : null);

  function kept(found) {
    const values = found.steps.filter((one) => one.kept);
    return card("Persisted values", values.length ? table(["Step", "Type", "Size", "Digest", "Value"], values.map(({ key, kept: one }) =>
      h("tr", {}, h("th", { scope: "row", class: "mono" }, key), h("td", {}, one.type), h("td", { class: "nowrap" }, one.plain ? "plain" : size(one.size)),
        h("td", { class: "mono", title: one.digest }, one.digest ? one.digest.slice(0, 16) : one.reason ? `not kept: ${one.reason}` : "—"),
        h("td", { class: "roomy" }, one.preview ? preview(one.preview, key) : foldable(one.text), one.load ? h("code", { class: "mono quiet" }, one.load) : null))), { "aria-label": "Persisted values" }) : h("p", { class: "quiet" }, "No step of this trial kept its value."));
  }

  function code(found) {
    if (!found.code.length) return null;
    const short = found.code.reduce((sum, one) => sum + one.lines.length, 0) <= 60;
    return card("Code", found.code.map((one) => fold(`code ${one.name}`, [h("span", { class: "mono" }, one.name), h("span", { class: "quiet" }, one.file ? ` ${one.file}` : "")],
      one.note ? h("p", { class: "quiet" }, one.note) : null,
      one.lines.length ? h("pre", { class: "code", tabindex: "0" }, one.lines.map((line) => [line.map(([text, kind]) => (kind ? h("span", { class: `t-${kind}` }, text) : text)), "\n"])) : null)).map((one) => { if (short && !drawnOnce) one.open = true; return one; }));
  }

  function environment(found) {
    const { categories, git, packages } = found.environment;
    const names = Object.keys(packages);
    if (!names.length && !Object.keys(categories).length && !Object.keys(git).length) return null;
    const facts = (values) => h("dl", { class: "facts" }, Object.entries(values).map(([name, text]) => [h("dt", {}, name), h("dd", { class: "value" }, text)]));
    const { diff: changes, ...rest } = git;
    return card("Environment",
      Object.keys(git).length ? fold("env git", "Git", facts(rest), changes ? diff(changes) : null) : null,
      Object.entries(categories).map(([name, values]) => fold(`env ${name}`, name, facts(values))),
      names.length ? fold("env packages", `Packages (${names.length})`, h("ul", { class: "packages mono" }, names.map((name) => h("li", {}, `${name}==${packages[name]}`)))) : null);
  }

  const card = (title, ...content) => h("section", { class: "card" }, h("h2", {}, title), content);
  const fold = (name, title, ...content) => h("details", { "data-name": name, open: opened.has(name) }, h("summary", {}, title), content);

  const OUTCOME = ["trial", "status", "reason", "said", "started", "finished", "step", "seed", "pid", "user", "host", "sweep",
    "copied_from", "source", "resumes", "resumed_by", "result", "parameters"];
  /** The parts of the page: of each its name, what of an answer it shows, and what draws it. */
  const PARTS = [
    ["heading", ["trial", "status", "said", "latest"], heading],
    ["problems", ["problems"], (found) => found.problems.map((one) => h("p", { class: "warning" }, one))],
    ["running", ["unfinished"], running],
    ["outcome", OUTCOME, (found) => h("div", { class: "pairof" }, outcome(found), given(found))],
    ["failure", ["failure"], failure],
    ["curves", [], () => place],
    ["remarks", ["said"], remarks],
    ["noticed", ["notes"], noticed],
    ["graph", ["status", "graph", "steps", "unfinished"], graphOf],
    ["timeline", ["status", "steps"], times],
    ["artifacts", ["trial", "artifacts"], artifacts],
    ["log", ["log"], log],
    ["steps", ["trial", "steps", "steps_left_out"], steps],
    ["lines", ["lines"], lines],
    ["kept", ["steps"], kept],
    ["code", ["code"], code],
    ["environment", ["environment"], environment],
  ];

  return { refresh, shown: () => drawn !== "", close: () => charts.clear(), recolour: () => { ended = ""; } };
}

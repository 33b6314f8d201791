// Trials side by side: any number of them, and of two all that differs.

import { artifact } from "./artifacts.js";
import { absent, badge, diff, h, notice, put, row, table } from "./dom.js";
import { ask, chosen, numbers, of, ranges } from "./state.js";
import { count, named, plural } from "./format.js";

export function compare(page) {
  let asked = "";
  let shown = false;

  async function refresh() {
    const { state } = page;
    const which = chosen(state);
    const mark = JSON.stringify([state.experiment, which]);
    if (mark === asked) return false;
    if (state.found !== "1" && state.trials.length < 2) {
      put(page.main, h("h1", {}, "Compare"), chooser(state.trials), notice("empty", "Two trials or more, please",
        "Tick trials in the table, or write their numbers above."));
      asked = mark;
      shown = true;
      return;
    }
    let found;
    try {
      found = await ask(of(state.experiment, "compare"), which, page.signal());
    } catch (error) {
      if (error.kind !== "no trial") throw error;
      // It may be about to begin: asked again.
      if (shown !== mark + error.message) put(page.main, h("h1", {}, "Compare"), chooser(state.trials), notice("error", "No such trial", error.message));
      shown = mark + error.message;
      return;
    }
    if (found.trials.length < 2) {
      // A filter may find more of them soon.
      const few = found.trials.length ? `The filter finds trial ${found.trials[0]} alone.` : "The filter finds no trial.";
      if (shown !== few) put(page.main, h("h1", {}, "Compare"), chooser(found.trials), notice("empty", "Two trials or more, please",
        `${few} Tick trials in the table, or write their numbers above.`));
      asked = "";
      shown = few;
      return;
    }
    // Trials that still run are compared again.
    asked = found.statuses.includes("running") ? "" : mark;
    const text = JSON.stringify(found);
    if (shown === text) return;
    shown = text;
    const title = found.trials.length === 2 ? `Trials ${found.trials[0]} and ${found.trials[1]}` : `${count(found.trials.length)} trials`;
    put(page.main, h("h1", {}, title), chooser(found.trials), view(found));
  }

  function chooser(trials) {
    const input = h("input", { type: "text", id: "trials", required: true, value: ranges(trials), size: 16, autocomplete: "off", placeholder: "3,7-9", "data-key": "compared" });
    const send = (event) => {
      event.preventDefault();
      page.go({ trials: numbers(input.value), found: undefined });
    };
    return h("form", { class: "tools", onsubmit: send },
      h("label", { class: "field", for: "trials" }, "Trials"), input,
      h("button", { type: "submit", class: "button" }, "Compare"),
      trials.length > 1 ? h("button", { type: "button", class: "plain", onclick: () => page.go({ trials: [...trials.slice(1), trials[0]], found: undefined }) }, trials.length === 2 ? "Swap" : "Next as the first") : null);
  }

  function view(found) {
    const isTwo = Boolean(found.two);
    return [
      h("div", { class: "card" },
        found.explanations.map(([trial, text]) => h("p", { class: "lead" }, text)),
        found.unexplained ? h("p", { class: "quiet" }, `Where ${plural(found.unexplained, "more trial")} part from trial ${found.trials[0]} is not looked at.`) : null,
        found.left_out ? h("p", { class: "quiet" }, `${plural(found.left_out, "more trial")} left out.`) : null,
        side(found, "Outcome", [
          h("tr", {}, h("th", { scope: "row" }, "Status"), found.statuses.map((one) => h("td", {}, badge(one)))),
          found.tags.some(Boolean) ? h("tr", {}, h("th", { scope: "row" }, "Tags"), found.tags.map((one) => h("td", {}, one))) : null,
          ...found.results.map((one) => line(one)), line(found.duration),
          isTwo && found.two.failures.some(Boolean) ? h("tr", {}, h("th", { scope: "row" }, "Failure"), found.two.failures.map((one) => h("td", {}, one ? h("span", { class: "value" }, one) : "—"))) : null,
          isTwo && found.two.seeds ? row("Seed", ...found.two.seeds) : null,
        ])),
      isTwo ? pairs(found, "Parameters", found.two.parameters, same(found.two.same_parameters), deltas(found))
        : section("Parameters", found.parameters.length ? side(found, "Parameters", found.parameters.map(line)) : null, same(found.same)),
      found.metrics.length ? section("Metrics, last value", side(found, "Metrics, last value", found.metrics.map(line))) : null,
      found.artifacts.length ? section("Artifacts", found.artifacts.map((one) => [h("h3", { class: "mono" }, named(one.name)),
        h("div", { class: "abreast", tabindex: "0", role: "region", "aria-label": `Artifact ${one.name}` }, one.each.map((each, place) => h("div", {}, h("p", { class: "quiet" }, `Trial ${found.trials[place]}`),
          each ? artifact(page.state.experiment, found.trials[place], each) : absent())))])) : null,
      isTwo ? two(found) : null,
    ];
  }

  /** A table with a column for each trial. */
  const side = (found, title, rows) => table(["", ...found.trials.map((trial) => h("a", page.to({ tab: "trial", trial }), `Trial ${trial}`))], rows.filter(Boolean),
    { "aria-label": title, class: found.trials.length === 2 ? "pairs two" : "pairs many" });

  const line = (one) => h("tr", {}, h("th", { scope: "row" }, named(one.name)), one.cells.map(([text, kind, full], place) => h("td", { class: kind === "number" ? "number" : undefined, title: full ?? (kind === "number" ? text : undefined) },
    kind === "none" ? absent() : h("span", { class: "value" }, kind === "text" || kind === "value" ? full ?? text : text), one.deltas[place] ? h("div", { class: "delta" }, one.deltas[place]) : null)));

  const deltas = (found) => new Map(found.parameters.map((one) => [one.name, one.deltas[1]]));

  function pairs(found, title, rows, note, changes) {
    const show = (text) => (text === null ? absent() : h("span", { class: "value" }, text));
    return section(title, rows.length ? side(found, title, rows.map(([name, a, b]) =>
      row(name, show(a), [show(b), changes?.get(name) ? h("div", { class: "delta" }, changes.get(name)) : null]))) : null, note);
  }

  function same(values) {
    const ones = Object.entries(values).map(([name, value]) => `${named(name)} = ${value}`);
    if (!ones.length) return null;
    return ones.length <= 12 ? h("p", { class: "quiet" }, `The same: ${ones.join(", ")}`)
      : h("details", {}, h("summary", { class: "quiet" }, `${ones.length} are the same`), h("p", { class: "quiet mono" }, ones.join(", ")));
  }

  function two(all) {
    const found = all.two;
    return [
      found.steps.length ? section("Steps", table(["Step", "Output", "Why"], found.steps.map((step) =>
        h("tr", { class: step.key === found.origin ? "origin" : undefined },
          h("th", { scope: "row" }, step.key, step.key === found.origin ? h("span", { class: "pill" }, "first difference") : null),
          h("td", {}, h("span", { class: `verdict ${step.verdict.replace(" ", "-")}` }, step.outcome)), h("td", {}, step.why))), { "aria-label": "Steps" })) : null,
      Object.keys(found.functions).length ? section("Code", Object.entries(found.functions).map(([name, text]) => [h("h3", { class: "mono" }, name), diff(text)])) : null,
      pairs(all, "Packages", found.packages),
      pairs(all, "Git", found.git),
      found.git_diffs.length ? section("Uncommitted changes", found.git_diffs.map((one) => h("details", { open: Boolean(one.diff) && one.diff.length < 8000 },
        h("summary", {}, `Trial ${one.trial}`, h("span", { class: "quiet" }, one.diff ? "" : " none")),
        one.diff ? diff(one.diff) : null,
        one.untracked ? [h("p", { class: "quiet" }, "Untracked files"), h("pre", { tabindex: "0" }, one.untracked)] : null))) : null,
      found.environment.length ? section("Environment", h("ul", { class: "plainlist mono" }, found.environment.map((one) => h("li", {}, one)))) : null,
      found.problems.length ? section("Not compared", h("ul", {}, found.problems.map((one) => h("li", {}, one)))) : null,
    ];
  }

  function section(title, content, note) {
    if (!content && !note) return null;
    return h("section", { class: "card" }, h("h2", {}, title), content, note);
  }

  return { refresh, shown: () => Boolean(shown) };
}

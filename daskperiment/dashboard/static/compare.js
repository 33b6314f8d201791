// Two trials side by side.

import { artifact } from "./artifacts.js";
import { absent, badge, diff, h, notice, put, row, table } from "./dom.js";
import { ask, of } from "./state.js";
import { named } from "./format.js";

export function compare(page) {
  let asked = "";
  let shown = false;

  async function refresh() {
    const { state } = page;
    const two = state.trials.slice(0, 2);
    const mark = [state.experiment, ...two].join();
    if (mark === asked) return false;
    if (two.length < 2 || two[0] === two[1]) {
      put(page.main, h("h1", {}, "Compare"), chooser(two), notice("empty", "Two trials, please",
        "Tick two trials in the table, or write their numbers above."));
      asked = mark;
      shown = true;
      return;
    }
    let found;
    try {
      found = await ask(of(state.experiment, "compare"), { trials: two.join(",") }, page.signal());
    } catch (error) {
      if (error.kind !== "no trial") throw error;
      put(page.main, h("h1", {}, "Compare"), chooser(two), notice("error", "No such trial", error.message));
      asked = mark;
      shown = true;
      return;
    }
    // Trials that still run are compared again.
    asked = found.statuses.includes("running") ? "" : mark;
    const text = JSON.stringify(found);
    if (shown === text) return;
    shown = text;
    put(page.main, h("h1", {}, `Trials ${found.first} and ${found.second}`), chooser(two), view(found));
  }

  function chooser(two) {
    const [first, second] = [0, 1].map((place) => h("input", { type: "number", min: "1", step: "1", required: true,
      value: two[place] ?? "", "aria-label": place ? "Second trial" : "First trial", "data-key": `trial ${place}` }));
    const send = (event) => {
      event.preventDefault();
      page.go({ trials: [first, second].map((one) => Number(one.value)).filter((one) => one > 0) });
    };
    return h("form", { class: "tools", onsubmit: send },
      h("label", { class: "field" }, h("span", {}, "Trial"), first), h("label", { class: "field" }, h("span", {}, "with"), second),
      h("button", { type: "submit", class: "button" }, "Compare"),
      h("button", { type: "button", class: "plain", onclick: () => page.go({ trials: [...two].reverse() }) }, "Swap"));
  }

  function view(found) {
    const trials = [`Trial ${found.first}`, `Trial ${found.second}`];
    const show = (text) => (text === null ? absent() : text);
    const pairs = (title, rows, note, open = true) => section(title, rows.length ? table(["", ...trials], rows.map(([name, a, b]) =>
      row(name, h("span", { class: "value" }, show(a)), h("span", { class: "value" }, show(b)))), { "aria-label": title, class: "pairs two" }) : null, note, open);
    const same = (values) => {
      const ones = Object.entries(values).map(([name, value]) => `${named(name)} = ${value}`);
      if (!ones.length) return null;
      return ones.length <= 12 ? h("p", { class: "quiet" }, `The same: ${ones.join(", ")}`)
        : h("details", {}, h("summary", { class: "quiet" }, `${ones.length} are the same`), h("p", { class: "quiet mono" }, ones.join(", ")));
    };
    const outcome = h("div", { class: "card" }, h("p", { class: "lead" }, found.explanation),
      table(["", ...trials], [
        row("Status", badge(found.statuses[0]), badge(found.statuses[1])),
        row("Result", ...found.results.map((one) => h("span", { class: "value" }, show(one)))),
        found.failures.some(Boolean) ? row("Failure", ...found.failures.map((one) => (one ? h("span", { class: "value" }, one) : "—"))) : null,
        found.seeds ? row("Seed", ...found.seeds) : null,
      ].filter(Boolean), { "aria-label": "Outcome", class: "pairs two" }));
    return [
      outcome,
      pairs("Parameters", found.parameters, same(found.same_parameters)),
      pairs("Metrics, last value", found.metrics, same(found.same_metrics)),
      found.artifacts.length ? section("Artifacts", h("div", { class: "pairof" }, found.artifacts.map((pair) => pair.map((one, place) =>
        (one ? artifact(page.state.experiment, [found.first, found.second][place], one) : absent()))))) : null,
      found.steps.length ? section("Steps", table(["Step", "Output", "Why"], found.steps.map((step) =>
        h("tr", { class: step.key === found.origin ? "origin" : undefined },
          h("th", { scope: "row" }, step.key, step.key === found.origin ? h("span", { class: "pill" }, "first difference") : null),
          h("td", {}, h("span", { class: `verdict ${step.verdict.replace(" ", "-")}` }, step.outcome)), h("td", {}, step.why))), { "aria-label": "Steps" })) : null,
      Object.keys(found.functions).length ? section("Code", Object.entries(found.functions).map(([name, text]) => [h("h3", { class: "mono" }, name), diff(text)])) : null,
      pairs("Packages", found.packages),
      pairs("Git", found.git),
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

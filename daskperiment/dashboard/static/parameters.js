// Parameters against results.

import { h, notice, put, table } from "./dom.js";
import { ask, chosen, look, of, ranges } from "./state.js";
import { count, named, plural } from "./format.js";
import { draw, load } from "./bokeh.js";

export function parameters(page) {
  let asked = "";
  let version = "";
  let charts = [];
  let shown = false;

  async function refresh(fresh) {
    const { state } = page;
    load().catch(() => {});  // while the figures are made; whoever draws is told why it fails
    const only = state.only === "1" && state.trials.length > 0 && state.found !== "1";
    const news = await ask(of(state.experiment, "trials"), { ...look(state), size: 1, seen: fresh ? "" : version }, page.signal());
    const query = { ...look(state), ...(only ? chosen(state) : {}), across: state.across, up: state.up, colour: state.colour,
      best: state.best, best_across: state.bestacross,
      logx: state.plogx, logy: state.plogy, theme: page.theme() };
    const mark = JSON.stringify(query);
    if (mark === asked && news.version === version) return;
    const found = await ask(of(state.experiment, "influence"), query, page.signal());
    asked = mark;
    version = news.version;
    shown = true;
    await view(found, only);
    const importance = page.main.querySelector(".importance");
    if (importance && found.scatter) rank(importance, query);
  }

  /** How much each parameter matters: evaluated after the charts are there, because it takes longer. */
  async function rank(place, query) {
    let found;
    try { found = await ask(of(page.state.experiment, "importance"), { ...query, up: query.up }, page.signal()); } catch (error) {
      if (error.name !== "AbortError") put(place, h("h2", {}, "Importance"), h("p", { class: "quiet" }, error.message));
      return;
    }
    put(place, h("h2", {}, "Importance"), found.ranks.length ? [
      h("p", { class: "quiet" }, `for ${found.title}, by ${found.evaluator} of Optuna, of ${plural(found.of, "trial")}`),
      table(["Parameter", "Share", ""], found.ranks.map(([name, share]) => h("tr", {}, h("th", { scope: "row", class: "mono" }, named(name)),
        h("td", { class: "number" }, share.toFixed(3)), h("td", { class: "share" }, h("i", { "aria-hidden": "true", style: { width: `${Math.round(100 * share)}%` } })))), { "aria-label": "Importance" })]
      : h("p", { class: "quiet" }, found.why));
  }

  async function view(found, only) {
    const { state } = page;
    const open = (trial) => page.go({ tab: "trial", trial });
    const plot = (label) => h("div", { class: "plot", role: "group", "aria-label": label });
    const [points, lines] = [plot(`${found.up} against ${found.across}`), plot("Parameters and result as parallel lines")];
    const brushed = h("div", { class: "selection", role: "region", "aria-label": "Brushed trials", hidden: true });
    const brush = (trials) => {
      brushed.hidden = !trials.length;
      put(brushed, h("span", {}, h("strong", {}, `${count(trials.length)} brushed`), h("span", { class: "quiet" }, ` ${ranges(trials.slice(0, 40))}${trials.length > 40 ? " …" : ""}`)),
        h("button", { type: "button", class: "button", onclick: () => page.go({ trials, found: undefined }) }, "Select them"));
    };
    const old = charts;
    charts = [];
    put(page.main, h("div", { class: "heading" }, h("h1", {}, "Parameters"), h("p", { class: "quiet" }, told(found, only))),
      h("div", { class: "tools" },
        choice("Across", "across", found.across, [...found.parameters.map((one) => [one.name, one.differs ? named(one.name) : `${named(one.name)} (the same in all)`]),
          ...found.ups.map((one) => [`=${one.key}`, one.title])]),
        choice("Up", "up", found.up, found.ups.map((one) => [one.key, one.title])),
        choice("Best is", "best", found.best, [["max", "highest"], ["min", "lowest"]]),
        isResult(found) ? choice("Best across is", "bestacross", found.best_across, [["max", "highest"], ["min", "lowest"]]) : null,
        choice("Colour", "colour", found.colour, found.ups.map((one) => [one.key, one.title])),
        h("div", { class: "chips", role: "group", "aria-label": "Logarithmic axes" },
          press("plogx", "log x"), press("plogy", "log y")),
        state.trials.length ? press("only", `Only the ${state.trials.length} selected`) : null),
      (found.log_refused ?? []).map((axis) => h("p", { class: "quiet" }, `The ${axis} axis stays linear: not all values on it are positive numbers.`)),
      found.scatter ? [
        brushed,
        h("section", { class: "card" }, h("h2", {}, isResult(found) ? "Two results" : "One parameter"), points, front(found)),
        h("section", { class: "card" }, h("h2", {}, "All parameters that differ"),
          found.parallel ? h("div", { class: "scroll bare", tabindex: "0", role: "region", "aria-label": "Parallel axes" }, lines) : h("p", { class: "quiet" }, "No parameter differs among these trials."),
          found.axes_left_out ? h("p", { class: "quiet" }, `${plural(found.axes_left_out, "more parameter")} left out.`) : null,
          found.lines_left_out ? h("p", { class: "quiet" }, `${best(found, found.lines)}; ${count(found.lines_left_out)} are left out.`) : null,
          h("p", { class: "quiet" }, "Draw a box around a part of an axis to see the trials that go through it; with Shift on a second axis, too.")),
        h("section", { class: "card importance" }, h("h2", {}, "Importance"), h("p", { class: "quiet" }, "Being evaluated …")),
      ] : nothing(found));
    old.forEach((one) => one.remove());
    if (found.scatter) charts.push(await draw(found.scatter, points, open, brush));
    if (found.parallel) charts.push(await draw(found.parallel, lines, open, brush));
  }

  function told(found, only) {
    const which = only ? "selected" : page.state.filter || page.state.status ? "found by the filter" : "in all";
    const text = `${plural(found.trials, "trial")} ${which}, ${count(found.drawn + found.left_out)} with a number`;
    return found.left_out ? `${text}; ${best(found, found.drawn)}, ${count(found.left_out)} are left out` : text;
  }

  const isResult = (found) => found.across.startsWith("=") && !found.parameters.some((one) => one.name === found.across);

  const best = (found, most) => `drawn are the best ${count(most / 2)} by ${found.ups.find((one) => one.key === found.up)?.title} (${found.best === "min" ? "lowest" : "highest"}) and as many others at regular steps`;

  const front = (found) => (found.front?.length ? h("p", { class: "quiet" }, `Pareto front, no other trial beats these in both results: `,
    found.front.slice(0, 30).map((trial, i) => [i ? ", " : "", h("a", page.to({ tab: "trial", trial }), `Trial ${trial}`)]), found.front.length > 30 ? ` and ${plural(found.front.length - 30, "more")}` : "", ". ",
    h("button", { type: "button", class: "plain", onclick: () => page.go({ trials: found.front, found: undefined }) }, "Select them")) : null);

  function nothing(found) {
    if (!found.trials) return notice("empty", "No trial", "No trial is there to draw, or none passes the filter.", h("p", {}, h("a", page.to({ filter: undefined, status: undefined, only: undefined }), "Take all trials")));
    if (!found.parameters.length) return notice("empty", "No parameters", "These trials took no parameters, so there is nothing to draw results against.");
    return notice("empty", "No numbers", "None of these trials has a result, a metric or a duration that is a number.");
  }

  const press = (name, text) => h("button", { type: "button", class: "chip", "data-key": name,
    "aria-pressed": String(page.state[name] === "1"),
    onclick: () => page.go({ [name]: page.state[name] === "1" ? undefined : "1" }) }, text);

  const choice = (text, name, value, options) => h("label", { class: "field" }, h("span", {}, text),
    h("select", { "data-key": name, onchange: (event) => page.go({ [name]: event.target.value }) },
      options.map(([key, title]) => h("option", { value: key, selected: key === value }, title))));

  return { refresh, shown: () => shown, close: () => charts.forEach((one) => one.remove()), recolour: () => { asked = ""; } };
}

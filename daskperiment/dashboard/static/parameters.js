// Parameters against results.

import { h, notice, put } from "./dom.js";
import { ask, chosen, look, of } from "./state.js";
import { count, named, plural } from "./format.js";
import { draw } from "./bokeh.js";

export function parameters(page) {
  let asked = "";
  let version = "";
  let charts = [];
  let shown = false;

  async function refresh(fresh) {
    const { state } = page;
    const only = state.only === "1" && state.trials.length > 0 && state.found !== "1";
    const news = await ask(of(state.experiment, "trials"), { ...look(state), size: 1, seen: fresh ? "" : version }, page.signal());
    const query = { ...look(state), ...(only ? chosen(state) : {}), across: state.across, up: state.up,
      logx: state.plogx, logy: state.plogy, theme: page.theme() };
    const mark = JSON.stringify(query);
    if (mark === asked && news.version === version) return;
    const found = await ask(of(state.experiment, "influence"), query, page.signal());
    asked = mark;
    version = news.version;
    shown = true;
    await view(found, only);
  }

  async function view(found, only) {
    const { state } = page;
    const open = (trial) => page.go({ tab: "trial", trial });
    const plot = (label) => h("div", { class: "plot", role: "group", "aria-label": label });
    const [points, lines] = [plot(`${found.up} against ${found.across}`), plot("Parameters and result as parallel lines")];
    const old = charts;
    charts = [];
    put(page.main, h("div", { class: "heading" }, h("h1", {}, "Parameters"), h("p", { class: "quiet" }, told(found, only))),
      h("div", { class: "tools" },
        choice("Across", "across", found.across, found.parameters.map((one) => [one.name, one.differs ? named(one.name) : `${named(one.name)} (the same in all)`])),
        choice("Up", "up", found.up, found.ups.map((one) => [one.key, one.title])),
        h("div", { class: "chips", role: "group", "aria-label": "Logarithmic axes" },
          press("plogx", "log x"), press("plogy", "log y")),
        state.trials.length ? press("only", `Only the ${state.trials.length} selected`) : null),
      (found.log_refused ?? []).map((axis) => h("p", { class: "quiet" }, `The ${axis} axis stays linear: not all values on it are positive numbers.`)),
      found.scatter ? [
        h("section", { class: "card" }, h("h2", {}, "One parameter"), points),
        h("section", { class: "card" }, h("h2", {}, "All parameters that differ"),
          found.parallel ? lines : h("p", { class: "quiet" }, "No parameter differs among these trials."),
          found.axes_left_out ? h("p", { class: "quiet" }, `${plural(found.axes_left_out, "more parameter")} left out.`) : null,
          found.lines_left_out ? h("p", { class: "quiet" }, `The latest 1,000 trials are drawn; ${count(found.lines_left_out)} are left out.`) : null),
      ] : nothing(found));
    old.forEach((one) => one.remove());
    if (found.scatter) charts.push(await draw(found.scatter, points, open));
    if (found.parallel) charts.push(await draw(found.parallel, lines, open));
  }

  function told(found, only) {
    const which = only ? "selected" : page.state.filter || page.state.status ? "found by the filter" : "in all";
    const text = `${plural(found.trials, "trial")} ${which}, ${count(found.drawn)} with a number`;
    return found.left_out ? `${text}; the earliest ${count(found.left_out)} are left out` : text;
  }

  function nothing(found) {
    if (!found.trials) return notice("empty", "No trial", "No trial is there to draw, or none passes the filter.", h("p", {}, h("a", page.to({ filter: undefined, status: undefined, only: undefined }), "Take all trials")));
    if (!found.parameters.length) return notice("empty", "No parameters", "These trials took no parameters, so there is nothing to draw results against.");
    return notice("empty", "No numbers", "None of these trials has a result, a metric or a duration that is a number.");
  }

  const press = (name, text) => h("button", { type: "button", class: "chip", "data-key": name,
    "aria-pressed": String(page.state[name] === "1"),
    onclick: () => page.go({ [name]: page.state[name] === "1" ? undefined : "1" }, { replace: true }) }, text);

  const choice = (text, name, value, options) => h("label", { class: "field" }, h("span", {}, text),
    h("select", { "data-key": name, onchange: (event) => page.go({ [name]: event.target.value }, { replace: true }) },
      options.map(([key, title]) => h("option", { value: key, selected: key === value }, title))));

  return { refresh, shown: () => shown, close: () => charts.forEach((one) => one.remove()), recolour: () => { asked = ""; } };
}

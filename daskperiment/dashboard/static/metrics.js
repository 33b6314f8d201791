// Curves of the selected trials.

import { h, notice, put, table } from "./dom.js";
import { ask, chosen, of } from "./state.js";
import { named, plural } from "./format.js";
import { draw } from "./bokeh.js";

export function metrics(page) {
  let asked = "";
  let shape = "";
  let running = false;
  let missing = false;
  let charts = [];
  let shown = false;

  const question = () => {
    const { state } = page;
    return { ...chosen(state), metric: state.metric, over: state.over, smooth: state.smooth,
      logx: state.logx, logy: state.logy, theme: page.theme() };
  };

  async function refresh() {
    const { state } = page;
    if (!state.trials.length && state.found !== "1") {
      const latest = await ask(of(state.experiment, "trials"), { size: 5 }, page.signal());
      const ids = latest.rows.map((one) => one.trial);
      asked = shape = "";
      shown = true;
      clear();
      put(page.main, h("h1", {}, "Metrics"), notice("empty", "No trial selected",
        "Tick trials in the table to see their curves side by side.",
        h("p", {}, h("a", { class: "button", ...page.to({ tab: undefined }) }, "Choose trials"), " ",
          ids.length ? h("a", { class: "button", ...page.to({ trials: ids }) }, `Take the latest ${ids.length}`) : null)));
      return;
    }
    const query = question();
    const mark = JSON.stringify(query);
    if (mark === asked && !running && !missing) return false;
    const again = mark === asked;
    const found = await ask(of(state.experiment, "metrics"), again ? { ...query, data: "1" } : query, page.signal());
    const now = JSON.stringify([found.trials, found.known, found.charts.map((one) => [one.metric, Object.keys(one.data)])]);
    running = found.running;
    missing = found.missing.length > 0;
    if (again && now === shape) {
      found.charts.forEach((one, i) => {
        charts[i].chart?.update(one.data);
        put(charts[i].figures, figures(one));
        put(charts[i].words, left(one));
      });
      return;
    }
    const full = again ? await ask(of(state.experiment, "metrics"), query, page.signal()) : found;
    asked = mark;
    shape = JSON.stringify([full.trials, full.known, full.charts.map((one) => [one.metric, Object.keys(one.data)])]);
    shown = true;
    await view(full);
  }

  function clear() {
    charts.forEach((one) => one.chart?.remove());
    charts = [];
  }

  async function view(found) {
    const old = charts;
    const grid = h("div", { class: "charts" });
    const focused = document.activeElement?.dataset?.key;
    put(page.main, h("div", { class: "heading" }, h("h1", {}, "Metrics"), h("p", { class: "quiet" }, `of ${plural(found.trials.length, "trial")}`)),
      controls(found), legend(found), remarks(found),
      found.known.length ? grid : notice("empty", "No metrics", `${found.trials.length === 1 ? "This trial has" : "These trials have"} saved no metric${found.running ? " yet; curves appear as soon as there is one" : ""}.`,
        h("pre", { class: "example" }, 'ex.save_metric("loss", epoch, value)')));
    if (focused) [...page.main.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
    charts = found.charts.map((one) => {
      const place = h("div", { class: "plot", role: "group", "aria-label": `${one.metric} over ${one.label} of ${plural(Object.keys(one.data).length, "trial")}; the figures stand below` });
      const numbers = h("div", {}, figures(one));
      const words = h("div", {}, left(one));
      grid.append(h("section", { class: "card" }, h("h2", {}, named(one.metric)),
        place, words, h("details", {}, h("summary", {}, "Figures"), numbers)));
      return { figures: numbers, words, place, item: one.item, chart: null };
    });
    old.forEach((one) => one.chart?.remove());
    for (const one of charts) one.chart = await draw(one.item, one.place);
  }

  function controls(found) {
    const { state } = page;
    const on = new Set(state.metric.length ? state.metric : found.known);
    const flip = (name) => {
      const next = found.known.filter((one) => (one === name ? !on.has(one) : on.has(one)));
      page.go({ metric: next.length === found.known.length || !next.length ? [] : next }, { replace: true });
    };
    const press = (name, text, isOn, changes) => h("button", { type: "button", class: "chip", "data-key": name,
      "aria-pressed": String(isOn), onclick: () => page.go(changes, { replace: true }) }, text);
    const smooth = Number(state.smooth ?? 0);
    const output = h("output", {}, smooth ? smooth.toFixed(2) : "off");
    return h("div", { class: "tools" },
      found.known.length > 1 ? h("div", { class: "chips", role: "group", "aria-label": "Metrics" }, found.known.map((name) =>
        h("button", { type: "button", class: "chip", "data-key": `metric ${name}`, "aria-pressed": String(on.has(name)), title: name.length > 30 ? name : undefined,
          onclick: () => flip(name) }, h("span", { class: "long" }, named(name))))) : null,
      h("div", { class: "chips joined", role: "group", "aria-label": "Across" },
        press("over epoch", "Epoch", state.over !== "time", { over: undefined }),
        press("over time", "Time", state.over === "time", { over: "time" })),
      h("div", { class: "chips", role: "group", "aria-label": "Logarithmic axes" },
        press("log x", "log x", state.logx === "1", { logx: state.logx === "1" ? undefined : "1" }),
        press("log y", "log y", state.logy === "1", { logy: state.logy === "1" ? undefined : "1" })),
      h("label", { class: "range" }, "Smoothing ", h("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: smooth, "data-key": "smooth",
        oninput: (event) => { output.textContent = Number(event.target.value) ? Number(event.target.value).toFixed(2) : "off"; },
        onchange: (event) => page.go({ smooth: Number(event.target.value) ? event.target.value : undefined }, { replace: true }) }), " ", output));
  }

  function legend(found) {
    const { state } = page;
    return h("ul", { class: "legend", "aria-label": "Trials" }, found.trials.map(({ trial, status, look: [color, dash] }) => {
      const line = { solid: "solid", dashed: "dashed", dotted: "dotted", dotdash: "double" }[dash];
      return h("li", {}, h("span", { class: "swatch", "aria-hidden": "true", style: { borderTopColor: color, borderTopStyle: line } }),
        h("a", page.to({ tab: "trial", trial }), `Trial ${trial}`), status === "succeeded" ? null : h("span", { class: "quiet" }, ` ${status}`),
        h("button", { type: "button", class: "plain", "aria-label": `Take trial ${trial} away`, "data-key": `away ${trial}`,
          onclick: () => page.go({ trials: state.trials.filter((one) => one !== trial) }, { replace: true }) }, "×"));
    }));
  }

  function remarks(found) {
    const told = [];
    if (found.left_out) told.push(`${plural(found.left_out, "more trial")} selected; the first ${found.trials.length} are drawn.`);
    if (found.charts_left_out) told.push(`${plural(found.charts_left_out, "more metric")}; choose among them above.`);
    if (found.missing.length) told.push(`There is no trial ${found.missing.join(", ")}.`);
    return told.map((one) => h("p", { class: "quiet" }, one));
  }

  const left = (chart) => [
    chart.by_order && "Epochs are no numbers: the points stand in the order in which they were saved.",
    chart.not_positive && `${plural(chart.not_positive, "point")} at or below zero left out: a logarithmic axis has no place for them.`,
    chart.passed_over && `${plural(chart.passed_over, "point")} without a number left out.`,
  ].filter(Boolean).map((one) => h("p", { class: "quiet" }, one));

  const figures = (chart) => table(["Trial", "Points", "Last", "Lowest", "Highest"], chart.summary.map((one) =>
    h("tr", {}, h("th", { scope: "row" }, one.trial), h("td", { class: "number" }, one.points),
      h("td", { class: "number" }, one.last), h("td", { class: "number" }, one.lowest), h("td", { class: "number" }, one.highest))),
  { "aria-label": `Figures of ${chart.metric}` });

  return { refresh, shown: () => shown, close: clear, recolour: () => { asked = ""; } };
}

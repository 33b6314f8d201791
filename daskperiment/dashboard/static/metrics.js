// Curves of the selected trials.

import { Charts, shapeOf, swatch } from "./curves.js";
import { h, notice, put } from "./dom.js";
import { ask, chosen, of } from "./state.js";
import { count, named, plural } from "./format.js";
import { load } from "./bokeh.js";

export function metrics(page) {
  let asked = "";
  let shape = "";
  let running = false;
  let missing = false;
  const charts = new Charts();
  let shown = false;

  const question = () => {
    const { state } = page;
    return { ...chosen(state), metric: state.metric, over: state.over, smooth: state.smooth,
      logx: state.logx, logy: state.logy, many: state.many, theme: page.theme() };
  };

  async function refresh() {
    const { state } = page;
    if (!state.trials.length && state.found !== "1") {
      const latest = await ask(of(state.experiment, "trials"), { size: 5 }, page.signal());
      const ids = latest.rows.map((one) => one.trial);
      asked = shape = "";
      shown = true;
      charts.clear();
      put(page.main, h("h1", {}, "Metrics"), notice("empty", "No trial selected",
        "Tick trials in the table to see their curves side by side.",
        h("p", {}, h("a", { class: "button", ...page.to({ tab: undefined }) }, "Choose trials"), " ",
          ids.length ? h("a", { class: "button", ...page.to({ trials: ids }) }, `Take the latest ${ids.length}`) : null)));
      return;
    }
    load().catch(() => {});  // while the figures are made; whoever draws is told why it fails
    const query = question();
    const mark = JSON.stringify(query);
    if (mark === asked && !running && !missing) return false;
    const again = mark === asked;
    const found = await ask(of(state.experiment, "metrics"), again ? { ...query, data: "1" } : query, page.signal());
    running = found.running;
    missing = found.missing.length > 0;
    if (again && shapeOf(found) === shape) { charts.update(found); return; }
    const full = again ? await ask(of(state.experiment, "metrics"), query, page.signal()) : found;
    asked = mark;
    shape = shapeOf(full);
    shown = true;
    await view(full);
  }

  async function view(found) {
    const grid = h("div", { class: "charts" });
    const focused = document.activeElement?.dataset?.key;
    put(page.main, h("div", { class: "heading" }, h("h1", {}, "Metrics"), h("p", { class: "quiet" }, `of ${plural(found.count, "trial")}`)),
      controls(found), legend(found), remarks(found),
      found.known.length ? grid : notice("empty", "No metrics", `${found.count === 1 ? "This trial has" : "These trials have"} saved no metric${found.running ? " yet; curves appear as soon as there is one" : ""}.`,
        h("pre", { class: "example" }, 'ex.save_metric("loss", epoch, value)')));
    if (focused) [...page.main.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
    await charts.show(found, grid);
  }

  function controls(found) {
    const { state } = page;
    const on = new Set(state.metric.length ? state.metric : found.known);
    const flip = (name) => {
      const next = found.known.filter((one) => (one === name ? !on.has(one) : on.has(one)));
      page.go({ metric: next.length === found.known.length || !next.length ? [] : next });
    };
    const press = (name, text, isOn, changes) => h("button", { type: "button", class: "chip", "data-key": name,
      "aria-pressed": String(isOn), onclick: () => page.go(changes) }, text);
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
      found.many ? h("div", { class: "chips joined", role: "group", "aria-label": "Many curves" },
        press("shade", "All, shaded", found.many === "shade", { many: undefined }),
        press("band", "Mean and band", found.many === "band", { many: "band" })) : null,
      h("label", { class: "range" }, "Smoothing ", h("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: smooth, "data-key": "smooth",
        oninput: (event) => { output.textContent = Number(event.target.value) ? Number(event.target.value).toFixed(2) : "off"; },
        onchange: (event) => page.go({ smooth: Number(event.target.value) ? event.target.value : undefined }, { replace: true }) }), " ", output));
  }

  function legend(found) {
    if (found.many === "band") return h("p", { class: "quiet" }, "The line is the mean, the dark band one standard deviation to each side, the light one from the lowest to the highest.");
    if (found.many) {
      return h("p", { class: "legend quiet" }, h("span", {}, "First of the selection"),
        h("span", { class: "shades", "aria-hidden": "true" }, found.shades.map((color) => h("i", { style: { background: color } }))), h("span", {}, "last of it"));
    }
    return h("ul", { class: "legend", "aria-label": "Trials" }, found.trials.map(({ trial, status, look }) => h("li", {}, swatch(look),
      h("a", page.to({ tab: "trial", trial }), `Trial ${trial}`), status === "succeeded" ? null : h("span", { class: "quiet" }, ` ${status}`),
      h("button", { type: "button", class: "plain", "aria-label": `Take trial ${trial} away`, "data-key": `away ${trial}`,
        onclick: () => page.go({ found: undefined, trials: found.trials.map((one) => one.trial).filter((one) => one !== trial) }, { replace: true }) }, "×"))));
  }

  function remarks(found) {
    const told = [];
    if (found.left_out) told.push(`${plural(found.left_out, "more trial")} selected; the first ${count(found.count)} are drawn.`);
    if (found.charts_left_out) told.push(`${plural(found.charts_left_out, "more metric")}; choose among them above.`);
    if (found.missing.length) told.push(`There is no trial ${found.missing.slice(0, 20).join(", ")} yet.`);
    return told.map((one) => h("p", { class: "quiet" }, one));
  }

  return { refresh, shown: () => shown, close: () => charts.clear(), recolour: () => { asked = ""; } };
}

// Charts of metrics, with their figures and what is to be said of each; followed while trials run.

import { h, put, s, table } from "./dom.js";
import { count, named, plural } from "./format.js";
import { draw } from "./bokeh.js";

const DASHES = { solid: "", dashed: "7 4", dotted: "2 4", dotdash: "2 4 7 4" };

/** A piece of a line as a curve of this look is drawn. */
export const swatch = ([color, dash]) => s("svg", { class: "swatch", width: 34, height: 10, "aria-hidden": "true" },
  s("line", { x1: 1, x2: 33, y1: 5, y2: 5, stroke: color, "stroke-width": 2.5, "stroke-dasharray": DASHES[dash] || undefined }));

export class Charts {
  constructor() {
    this.charts = [];
    // A chart that nobody sees is drawn when it comes into sight: with many, drawing all of them
    // anew for each point would leave no time for those that are looked at.
    this.sight = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const one = this.charts.find((each) => each.place === entry.target);
        if (one) { one.isSeen = entry.isIntersecting; this.draw(one); }
      }
    }, { rootMargin: "200px" });
  }

  /** Take the charts away. */
  clear() {
    this.sight.disconnect();
    this.charts.forEach((one) => one.chart?.remove());
    this.charts = [];
  }

  /** Draw what came for a chart since it was drawn, if it is in sight. */
  draw(one) {
    if (!one.isSeen || !one.fresh || !one.chart) return;
    one.chart.update(one.fresh);
    one.fresh = null;
  }

  /** Draw the charts of an answer into a place, and take those away that were there. */
  async show(found, grid) {
    const old = this.charts;
    let system = null;
    /** The place of what trials used of the machine: below what they saved. */
    const apart = () => {
      if (!system) {
        system = h("div", { class: "charts" });
        grid.after(h("section", { class: "system" }, h("h2", {}, "Machine"), system));
      }
      return system;
    };
    this.sight.disconnect();
    this.charts = found.charts.map((one) => {
      const place = h("div", { class: "plot", role: "group", "aria-label": `${one.metric} over ${one.label} of ${plural(one.curves, "trial")}; the figures stand below` });
      const numbers = h("div", {}, figures(one));
      const words = h("div", {}, left(one));
      (one.system ? apart() : grid).append(h("section", { class: "card" }, h("h2", {}, named(one.metric)),
        place, words, h("details", {}, h("summary", {}, "Figures"), numbers)));
      return { figures: numbers, words, place, item: one.item, chart: null, isSeen: true, fresh: null };
    });
    old.forEach((one) => one.chart?.remove());
    const shown = this.charts;
    for (const one of shown) {
      one.chart = await draw(one.item, one.place);
      if (this.charts !== shown) { one.chart.remove(); return; }  // taken away meanwhile
      this.sight.observe(one.place);
    }
  }

  /** Put new data into the charts that are there. */
  update(found) {
    found.charts.forEach((one, i) => {
      this.charts[i].fresh = one.data;
      this.draw(this.charts[i]);
      put(this.charts[i].figures, figures(one));
      put(this.charts[i].words, left(one));
    });
  }
}

/** What has to be the same for charts to be followed without being drawn anew. */
export const shapeOf = (found) => JSON.stringify([found.trials, found.count, found.known,
  found.charts.map((one) => [one.metric, Object.keys(one.data)])]);

const left = (chart) => [
  chart.by_order && "Epochs are no numbers: the points stand in the order in which they were saved.",
  chart.not_positive && `${plural(chart.not_positive, "point")} at or below zero left out: a logarithmic axis has no place for them.`,
  chart.passed_over && `${plural(chart.passed_over, "point")} without a number left out.`,
  (chart.nan || chart.inf) && `${[chart.nan && `${count(chart.nan)} nan`, chart.inf && `${count(chart.inf)} infinite`].filter(Boolean).join(" and ")} among the points${"many" in chart.data || "band" in chart.data ? "" : ": marked by ✕ (nan), △ (inf) and ▽ (-inf) where they stand"}.`,
].filter(Boolean).map((one) => h("p", { class: "quiet" }, one));

const figures = (chart) => [table(["Trial", "Points", "Last", "Lowest", "Highest", "nan or inf"], chart.summary.map((one) =>
  h("tr", {}, h("th", { scope: "row" }, one.trial), h("td", { class: "number" }, one.points),
    h("td", { class: "number" }, one.last), h("td", { class: "number" }, one.lowest), h("td", { class: "number" }, one.highest),
    h("td", { class: "number" }, one.odd))),
{ "aria-label": `Figures of ${chart.metric}` }),
chart.curves > chart.summary.length ? h("p", { class: "quiet" }, `${plural(chart.curves - chart.summary.length, "more trial")} left out.`) : null];

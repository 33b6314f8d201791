// All experiments of a store.

import { badge, h, notice, put, table } from "./dom.js";
import { address, ask } from "./state.js";
import { ago, count, moment, plural } from "./format.js";

const ORDER = ["running", "succeeded", "failed", "interrupted", "lost"];

export function experiments(page) {
  let drawn = "";
  return {
    shown: () => drawn !== "",
    async refresh() {
      const found = await ask("experiments", {}, page.signal());
      const mark = JSON.stringify(found);
      if (mark === drawn) return;
      drawn = mark;
      put(page.main, view(found));
    },
  };
}

function view(found) {
  const head = h("div", { class: "heading" }, h("h1", {}, "Experiments"), h("p", { class: "quiet mono" }, found.address));
  if (!found.experiments.length) {
    return [head, notice("empty", "No experiment yet",
      "Nothing was recorded in this store so far. An experiment appears here by itself as soon as its first trial begins.",
      h("pre", { class: "example" }, 'ex = daskperiment.Experiment("my_experiment")'))];
  }
  return [head, table(["Experiment", "Trials", "How they ended", "Latest activity"],
    found.experiments.map(line), { "aria-label": "Experiments", class: "list" })];
}

function line(one) {
  const name = h("a", { href: address({ experiment: one.experiment }), "data-key": one.experiment }, one.experiment);
  if (one.problem) {
    return h("tr", {}, h("th", { scope: "row" }, name),
      h("td", { colspan: "3", class: "problem" }, "Cannot be read: ", one.problem));
  }
  const states = ORDER.filter((status) => one.counts[status]);
  return h("tr", {}, h("th", { scope: "row" }, name),
    h("td", { class: "number" }, count(one.trials)),
    h("td", {}, h("span", { class: "mix" }, states.length ? states.map((status) => badge(status, `${count(one.counts[status])} ${status}`)) : plural(0, "trial"))),
    h("td", {}, one.latest ? h("time", { title: moment(one.latest), datetime: new Date(one.latest * 1000).toISOString() }, ago(one.latest)) : ""));
}

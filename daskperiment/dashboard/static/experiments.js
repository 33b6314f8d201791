// All experiments of a store: searched, and sorted by any column.

import { badge, h, notice, put } from "./dom.js";
import { address, ask } from "./state.js";
import { ago, count, plural, when } from "./format.js";

const ORDER = ["running", "succeeded", "pruned", "failed", "interrupted", "lost"];
const COLUMNS = [["name", "Experiment", (one) => one.experiment.toLowerCase()],
  ["trials", "Trials", (one) => one.trials ?? -1],
  ["running", "How they ended", (one) => one.counts?.running ?? -1],
  ["latest", "Latest activity", (one) => one.latest ?? -1]];

export function experiments(page) {
  let drawn = "";
  return {
    shown: () => drawn !== "",
    async refresh() {
      const found = await ask("experiments", {}, page.signal());
      const { search, by } = page.state;
      const mark = JSON.stringify([found, search, by]);
      if (mark === drawn) return;
      drawn = mark;
      const at = document.activeElement?.selectionStart;
      put(page.main, view(page, found));
      const input = document.activeElement;
      if (input?.id === "search" && at !== undefined) input.setSelectionRange(at, at);
    },
  };
}

function view(page, found) {
  const head = h("div", { class: "heading" }, h("h1", {}, "Experiments"), h("p", { class: "quiet mono address" }, found.address));
  if (!found.experiments.length) {
    return [head, notice("empty", "No experiment yet",
      "Nothing was recorded in this store so far. An experiment appears here by itself as soon as its first trial begins.",
      h("pre", { class: "example" }, 'ex = daskperiment.Experiment("my_experiment")'))];
  }
  const { search = "", by = "name" } = page.state;
  const shown = sorted(found.experiments.filter((one) => one.experiment.toLowerCase().includes(search.trim().toLowerCase())), by);
  return [head,
    h("div", { class: "tools" }, h("div", { class: "field grow" }, h("label", { for: "search", class: "hidden" }, "Search experiments"),
      h("input", { type: "search", id: "search", "data-key": "search", value: search, placeholder: "Part of a name", autocomplete: "off", spellcheck: "false",
        oninput: (event) => page.go({ search: event.target.value || undefined }, { replace: search !== "" }) })),
    search ? h("span", { class: "quiet" }, `${count(shown.length)} of ${plural(found.experiments.length, "experiment")}`) : null),
    shown.length ? list(page, shown, by) : notice("empty", "No experiment fits", `None of the ${plural(found.experiments.length, "experiment")} has this in its name.`)];
}

function sorted(ones, by) {
  const down = by.startsWith("-");
  const [, , key] = COLUMNS.find(([name]) => name === by.replace(/^-/, "")) ?? COLUMNS[0];
  const order = [...ones].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
  return down ? order.reverse() : order;
}

function list(page, ones, by) {
  const heads = COLUMNS.map(([key, title]) => {
    const now = by === key ? "ascending" : by === `-${key}` ? "descending" : undefined;
    // Of numbers and times the highest are wanted first.
    const next = now === undefined ? (key === "name" ? key : `-${key}`) : now === "descending" ? key : `-${key}`;
    return h("th", { scope: "col", "aria-sort": now }, h("button", { type: "button", class: "head", "data-key": `by ${key}`,
      onclick: () => page.go({ by: next === "name" ? undefined : next }) }, title,
    h("span", { class: "arrow", "aria-hidden": "true" }, now === "ascending" ? "↑" : now ? "↓" : "")));
  });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Experiments" },
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, ones.map(line))));
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
    h("td", {}, one.latest ? h("time", when(one.latest), ago(one.latest)) : ""));
}

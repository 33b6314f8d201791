// Trials grouped by a column: how many, and mean and standard deviation of what is a number.

import { h, table } from "./dom.js";
import { count, named, plural, short } from "./format.js";

const spread = (one) => (one === null ? h("td", { class: "number" }, h("span", { class: "hidden" }, "none"))
  : h("td", { class: "number", title: `${one.mean}${one.sd === null ? "" : ` ± ${one.sd}`}, of ${plural(one.of, "trial")}` },
    one.sd === null ? short(one.mean) : `${short(one.mean)} ± ${Number(one.sd.toPrecision(3))}`));

export function groups(page, data) {
  const { by, measures, lines, without, left_out: leftOut } = data.groups;
  const before = data.became || page.state.filter;
  const filtered = (one) => (before ? `(${before}) and ${one}` : one);
  return [
    table([by, "Trials", ...measures], lines.map((one) => h("tr", {},
      h("th", { scope: "row", class: "mono", title: one.value[2] }, one.filter
        ? h("a", { ...page.to({ group: undefined, filter: filtered(one.filter), start: undefined }), "data-key": `group ${one.value[0]}` }, named(one.value[0])) : named(one.value[0])),
      h("td", { class: "number" }, count(one.count)), one.cells.map(spread))), { "aria-label": `Trials by ${by}`, class: "groups" }),
    h("p", { class: "quiet" }, "Mean ± standard deviation.", without ? ` ${plural(without, "trial")} without a value.` : "",
      leftOut ? ` ${plural(leftOut, "smaller group")} left out.` : ""),
  ];
}

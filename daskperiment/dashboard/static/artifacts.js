// Artifacts of trials: pictures, tables, texts and pages, and a link to each file.

import { h, table } from "./dom.js";
import { of } from "./state.js";
import { moment, size } from "./format.js";

const fileOf = (experiment, trial, name, use) =>
  `api/${of(experiment, `trials/${trial}/artifact`)}?${new URLSearchParams({ name, use })}`;

/** A table's head, an array's numbers, the beginning of a text: made when the value was kept. */
export function preview(found, of) {
  if (!found) return null;
  const facts = [found.dtype, found.shape?.length ? found.shape.join(" × ") : "",
    ...Object.entries(found.stats ?? {}).map(([name, text]) => `${name} ${text}`)].filter(Boolean);
  const columns = found.columns ?? [];
  const rows = found.rows ?? [];
  return [
    facts.length ? h("p", { class: "quiet" }, facts.join(", ")) : null,
    found.text && found.kind !== "html" ? h("pre", { tabindex: "0" }, found.text) : null,
    columns.length && rows.length ? table(columns.map(([name]) => name), [
      h("tr", {}, columns.map(([, type]) => h("td", { class: "quiet" }, type))),
      ...rows.map((cells) => h("tr", {}, cells.map((one) => h("td", { class: "value" }, one))))], { "aria-label": `First rows of ${of}` }) : null,
    columns.length && !rows.length ? table(["Name", "Type"], columns.map(([name, type]) => h("tr", {}, h("th", { scope: "row", class: "mono" }, name), h("td", {}, type))), { "aria-label": `Parts of ${of}` }) : null,
  ];
}

function shown(experiment, trial, one) {
  if (one.reason) return h("p", { class: "problem" }, `Not kept: ${one.reason}`);
  if (one.shown === "picture") {
    return h("a", { href: fileOf(experiment, trial, one.name, "show"), target: "_blank", rel: "noopener" },
      h("img", { class: "artifact", alt: one.name, loading: "lazy", src: fileOf(experiment, trial, one.name, one.thumbnail && one.size > 200000 ? "thumbnail" : "show") }));
  }
  if (one.shown === "page") {
    // Nothing of a page runs until somebody says so, and then in an origin that is nobody's.
    const frame = h("iframe", { class: "artifact", title: one.name, sandbox: true, loading: "lazy", referrerpolicy: "no-referrer", src: fileOf(experiment, trial, one.name, "show") });
    const run = h("button", { type: "button", class: "plain", onclick: () => {
      frame.setAttribute("sandbox", "allow-scripts");
      frame.src = fileOf(experiment, trial, one.name, "run");
      run.remove();
    } }, "Run its scripts");
    return [frame, run];
  }
  return [
    one.thumbnail ? h("img", { class: "artifact", alt: one.name, loading: "lazy", src: fileOf(experiment, trial, one.name, "thumbnail") }) : null,
    one.preview ? preview(one.preview, `${one.name}, trial ${trial}`) : h("p", { class: "value quiet" }, one.text),
  ];
}

export function artifact(experiment, trial, one) {
  return h("figure", { class: "artifact" },
    h("figcaption", {}, h("strong", { class: "mono" }, one.name),
      h("span", { class: "quiet" }, ` ${one.format ?? "not kept"}, ${size(one.size)}, ${one.step ? `step ${one.step}` : "added later"}${one.reused ? ", with a reused output" : ""}, ${moment(one.added)}`)),
    shown(experiment, trial, one),
    one.digest ? h("p", {}, h("a", { class: "button", href: fileOf(experiment, trial, one.name, "download"), download: true }, "Download"), " ",
      h("code", { class: "mono", title: "A line to paste" }, one.load)) : null);
}

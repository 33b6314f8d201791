// Elements and text. Whatever comes from a store becomes a text node or an attribute that the
// browser never runs: nothing here, or anywhere on this page, parses text as markup.

import { named } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export const h = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Exchange what an element holds, and keep the focus on what has the same data-key. */
export function put(element, ...children) {
  const key = element.contains(document.activeElement)
    ? document.activeElement.closest("[data-key]")?.dataset.key : undefined;
  element.replaceChildren();
  add(element, children);
  if (key !== undefined) {
    [...element.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)
      ?.focus({ preventScroll: true });
  }
}

/** A place where nothing can be shown, and why. */
export function notice(kind, title, ...text) {
  const signs = { empty: "○", loading: "◌", error: "!", away: "⇠" };
  return h("section", { class: `notice ${kind}`, role: kind === "error" ? "alert" : undefined },
    h("p", { class: "sign", "aria-hidden": "true" }, signs[kind] ?? "○"),
    h("h2", {}, title), text.map((one) => one instanceof Node ? one : h("p", {}, one)));
}

export function skeleton(rows = 6) {
  return h("div", { class: "skeleton", "aria-busy": "true" },
    h("span", { class: "hidden" }, "Loading"),
    Array.from({ length: rows }, () => h("i", { "aria-hidden": "true" })));
}

const SIGNS = { running: "●", succeeded: "✓", pruned: "✂", failed: "✕", interrupted: "■", lost: "?" };

export const badge = (status, text) =>
  h("span", { class: `badge ${SIGNS[status] ? status : "other"}` },
    h("span", { "aria-hidden": "true", class: "sign" }, SIGNS[status] ?? "·"), text ?? status);

export function table(headers, rows, attributes = {}) {
  return h("div", { class: "scroll", tabindex: "0", role: "region",
    "aria-label": attributes["aria-label"] ?? headers.join(", ") },
    h("table", { class: attributes.class },
      headers.length ? h("thead", {}, h("tr", {}, headers.map((one) => (one ? h("th", { scope: "col" }, one) : h("td"))))) : null,
      h("tbody", {}, rows)));
}

export const row = (name, ...cells) =>
  h("tr", {}, h("th", { scope: "row" }, named(name)), cells.map((one) => h("td", {}, one)));

/** A text that can be unfolded if it is long. */
export const foldable = (text) => (text.length <= 400 ? h("span", { class: "value" }, text)
  : h("details", {}, h("summary", { class: "value" }, `${text.slice(0, 120)}…`), h("span", { class: "value" }, text)));

export const absent = () => h("span", { class: "absent" }, "absent");

/** A unified diff in colour; the signs stay, so that colour is not all that tells. */
export function diff(text) {
  const kind = (line) => line.startsWith("+++") || line.startsWith("---") || line.startsWith("diff ")
    ? "meta" : line.startsWith("@@") ? "hunk" : line.startsWith("+") ? "added"
      : line.startsWith("-") ? "removed" : "";
  return h("pre", { class: "diff", tabindex: "0" },
    text.replace(/\n$/, "").split("\n").map((line) => h("span", { class: kind(line) }, line + "\n")));
}

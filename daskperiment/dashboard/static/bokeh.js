// Charts by BokehJS, which is loaded from this server when the first chart is shown.

import { h } from "./dom.js";

const isSame = (data, columns) => Object.entries(columns).every(([key, values]) =>
  data[key]?.length === values.length && JSON.stringify([...data[key]]) === JSON.stringify(values));
const number = (one) => (Array.isArray(one) ? one.map(number) : one ?? NaN);

let loading;

export function load() {
  loading ??= new Promise((done, fail) => {
    const script = h("script", { src: "bokeh/bokeh.min.js" });
    script.onload = () => { window.Bokeh.set_log_level("error"); done(window.Bokeh); };
    script.onerror = () => { loading = undefined; fail(Object.assign(new Error("The charts' code cannot be loaded."), { kind: "server away" })); };
    document.head.append(script);
  });
  return loading;
}

/** Draw a figure; gives its document and a way to remove it. */
export async function draw(item, place, onpick, onbrush) {
  const Bokeh = await load();
  const manager = await Bokeh.embed.embed_item(item, place);
  const roots = [...manager];
  const document_ = roots[0].model.document;
  const source = document_.get_model_by_name("points");
  if (source && onpick) {
    let brushed = false;
    source.selected.change.connect(() => {
      const { indices, multiline_indices: lines } = source.selected;
      const found = indices.length ? [...indices] : [...(lines?.keys?.() ?? [])];
      if (crossings?.selected.indices.length) return;
      // One that is clicked is opened; several, by a box, are brushed.
      if (found.length === 1 && !brushed) onpick(source.data.trial[found[0]]);
      else if (found.length > 1 || brushed) onbrush?.(found.map((one) => source.data.trial[one]));
      brushed = found.length > 1;
    });
  }
  const crossings = document_.get_model_by_name("crossings");
  // The lines that go through what a box was drawn around; of boxes on several axes, through each.
  crossings?.selected.change.connect(() => {
    const { axis, line } = crossings.data;
    const wanted = new Map();
    for (const at of crossings.selected.indices) wanted.set(axis[at], (wanted.get(axis[at]) ?? new Set()).add(line[at]));
    const [first, ...others] = [...wanted.values()];
    const lines = first ? [...first].filter((one) => others.every((each) => each.has(one))) : [];
    source.selected.indices = lines;
    onbrush?.(lines.map((one) => source.data.trial[one]));
  });
  const before = new Map();
  return {
    update(data) {
      for (const [name, columns] of Object.entries(data)) {
        // Each source that is set costs a drawing: those that are as they were stay.
        const mark = JSON.stringify(columns);
        if (before.get(name) === mark) continue;
        const found = document_.get_model_by_name(name);
        if (found && (before.has(name) || !isSame(found.data, columns))) found.data = Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, values.map(number)]));
        before.set(name, mark);
      }
    },
    remove() {
      manager.clear?.();
      document_.clear();
      const known = Bokeh.documents.indexOf(document_);
      if (known >= 0) Bokeh.documents.splice(known, 1);
    },
  };
}

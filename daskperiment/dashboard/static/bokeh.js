// Charts by BokehJS, which is loaded from this server when the first chart is shown.

import { h } from "./dom.js";

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
export async function draw(item, place, onpick) {
  const Bokeh = await load();
  const manager = await Bokeh.embed.embed_item(item, place);
  const roots = [...manager];
  const document_ = roots[0].model.document;
  const source = document_.get_model_by_name("points");
  if (source && onpick) {
    source.selected.change.connect(() => {
      const [index] = source.selected.indices.length ? source.selected.indices : source.selected.multiline_indices?.size ? source.selected.multiline_indices.keys() : [];
      if (index !== undefined) onpick(source.data.trial[index]);
    });
  }
  return {
    update(data) {
      for (const [name, columns] of Object.entries(data)) {
        const found = document_.get_model_by_name(name);
        if (found) found.data = Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, values.map((one) => one ?? NaN)]));
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

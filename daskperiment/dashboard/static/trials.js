// The table of trials: sorted, filtered and cut into pages by the server.

import { badge, h, notice, put } from "./dom.js";
import { ask, of } from "./state.js";
import { ago, count, duration, moment, plural } from "./format.js";

const STATUSES = ["running", "succeeded", "failed", "interrupted", "lost"];
const SIZES = [25, 50, 100, 200];

export function trials(page) {
  const view = new Table(page);
  return {
    shown: () => view.data !== null,
    refresh: (fresh) => view.refresh(fresh),
  };
}

class Table {
  constructor(page) {
    this.page = page;
    this.data = null;
    this.seen = "";
    this.parts = null;
    this.nodes = new Map();
  }

  async refresh(fresh) {
    const { state } = this.page;
    const query = { filter: state.filter, status: state.status, sort: state.sort,
      start: state.start ?? 0, size: state.size ?? 50, seen: fresh ? "" : this.seen };
    let found;
    try {
      found = await ask(of(state.experiment, "trials"), query, this.page.signal());
    } catch (error) {
      if (error.kind !== "filter" || !this.parts) {
        if (error.kind !== "filter") throw error;
        found = await ask(of(state.experiment, "trials"), { size: 1 }, this.page.signal());
        this.draw({ ...found, rows: [], found: 0 });
      }
      this.complain(error.message);
      return;
    }
    this.seen = found.version;
    if (found.unchanged) { this.ages(); return; }
    this.draw(found);
    this.complain("");
  }

  complain(text) {
    this.parts.wrong.textContent = text;
    this.parts.wrong.hidden = !text;
    this.parts.filter.setAttribute("aria-invalid", text ? "true" : "false");
  }

  ages() {
    for (const one of this.parts.body.querySelectorAll("time[data-at]")) {
      const text = ago(Number(one.dataset.at));
      if (one.textContent !== text) one.textContent = text;
    }
  }

  draw(found) {
    this.data = found;
    if (!this.parts) this.frame();
    const { parts, page: { state } } = this;
    if (document.activeElement !== parts.filter) parts.filter.value = state.filter ?? "";
    put(parts.summary, plural(found.total, "trial"),
      found.damaged ? h("span", { class: "warning" }, ` · ${plural(found.damaged, "damaged record")} left out`) : "",
      h("span", { class: "mono address" }, ` · ${found.address}`));
    this.drawChips();
    this.drawColumns();
    this.drawSelection();
    const empty = !found.total || !found.rows.length;
    parts.scroll.hidden = parts.pager.hidden = empty;
    put(parts.empty, empty ? this.nothing() : []);
    if (empty) return;
    this.drawHead();
    this.drawBody();
    this.drawPager();
  }

  nothing() {
    if (this.data.deleted) {
      return notice("empty", "The experiment was deleted", "Its trials are gone from the store. If it is begun anew, its trials appear here by themselves.",
        h("p", {}, h("a", { href: "./" }, "All experiments")));
    }
    if (!this.data.total) {
      return notice("empty", "No trial yet", "Compute a result of this experiment: its trial appears here while it runs.");
    }
    return notice("empty", "No trial fits", `None of the ${plural(this.data.total, "trial")} passes the filter.`,
      h("p", {}, h("a", this.page.to({ filter: undefined, status: undefined, start: undefined }), "Show all trials")));
  }

  // What stays while rows come and go.
  frame() {
    const { page } = this;
    let wait = 0;
    const search = () => page.go({ filter: parts.filter.value || undefined, start: undefined }, { replace: true });
    const parts = this.parts = {
      summary: h("p", { class: "quiet" }),
      filter: h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false",
        placeholder: "lr>0.1 kind=rbf, or any word", "aria-describedby": "filter-wrong",
        oninput: () => { clearTimeout(wait); wait = setTimeout(search, 250); },
        onkeydown: (event) => { if (event.key === "Enter") { clearTimeout(wait); search(); } } }),
      wrong: h("p", { class: "wrong", id: "filter-wrong", role: "alert", hidden: true }),
      chips: h("div", { class: "chips", role: "group", "aria-label": "Show only trials that are" }),
      columns: h("div", { class: "menu", role: "group", "aria-label": "Columns" }),
      differ: h("button", { type: "button", class: "chip", "data-key": "differ",
        title: "Hide parameters that are the same in all these trials",
        onclick: () => page.go({ differ: page.state.differ ? undefined : "1" }, { replace: true }) }, "Only what differs"),
      selection: h("div", { class: "selection", role: "region", "aria-label": "Selected trials" }),
      empty: h("div"),
      head: h("thead"),
      body: h("tbody"),
      pager: h("nav", { class: "pager", "aria-label": "Pages" }),
    };
    parts.scroll = h("div", { class: "scroll trials", tabindex: "0", role: "region", "aria-label": "Trials" },
      h("table", {}, h("caption", { class: "hidden" }, "Trials"), parts.head, parts.body));
    const menu = h("details", { class: "drop" }, h("summary", { class: "chip" }, "Columns"), parts.columns);
    document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
    });
    put(page.main,
      h("div", { class: "heading" }, h("h1", {}, page.state.experiment), parts.summary),
      h("div", { class: "tools" },
        h("div", { class: "field grow" }, h("label", { for: "filter", class: "hidden" }, "Filter trials"), parts.filter),
        parts.chips, parts.differ, menu),
      parts.wrong, parts.selection, parts.empty, parts.scroll, parts.pager);
  }

  drawChips() {
    const { page, data } = this;
    const on = (page.state.status ?? "").split(",").filter(Boolean);
    put(this.parts.chips, STATUSES.filter((status) => data.counts[status] || on.includes(status)).map((status) => {
      const pressed = on.includes(status);
      const next = pressed ? on.filter((one) => one !== status) : [...on, status];
      return h("button", { type: "button", class: "chip", "aria-pressed": String(pressed), "data-key": `status ${status}`,
        onclick: () => page.go({ status: next.join(",") || undefined, start: undefined }, { replace: true }) },
      badge(status), h("span", { class: "quiet" }, count(data.counts[status] ?? 0)));
    }));
    this.parts.differ.setAttribute("aria-pressed", String(Boolean(page.state.differ)));
  }

  isHidden(column) {
    const { hide, differ } = this.page.state;
    if (column.group === "parameter" && differ && !column.differs) return true;
    return hide.includes(column.key) ? !column.hidden : Boolean(column.hidden);
  }

  drawColumns() {
    const { page } = this;
    const { hide } = page.state;
    put(this.parts.columns, this.data.columns.filter((one) => !["trial", "status"].includes(one.key)).map((column) => {
      const flip = hide.includes(column.key) ? hide.filter((one) => one !== column.key) : [...hide, column.key];
      return h("label", {}, h("input", { type: "checkbox", "data-key": `column ${column.key}`,
        checked: hide.includes(column.key) ? column.hidden : !column.hidden,
        onchange: () => page.go({ hide: flip }, { replace: true }) }), " ", column.title,
      column.group === "metric" ? h("span", { class: "quiet" }, " metric") : null);
    }));
  }

  drawSelection() {
    const { page, parts } = this;
    const { trials } = page.state;
    parts.selection.hidden = !trials.length;
    const few = trials.slice(0, 8).join(", ") + (trials.length > 8 ? " …" : "");
    put(parts.selection, trials.length ? [
      h("span", {}, h("strong", {}, `${trials.length} selected`), h("span", { class: "quiet" }, ` ${few}`)),
      h("a", { class: "button", ...page.to({ tab: "metrics" }) }, "Metrics"),
      h("a", { class: "button", ...page.to({ tab: "parameters", only: "1" }) }, "Parameters"),
      trials.length === 2 ? h("a", { class: "button", ...page.to({ tab: "compare" }) }, "Compare") : null,
      h("button", { type: "button", class: "plain", "data-key": "clear", onclick: () => page.go({ trials: [] }, { replace: true }) }, "Clear"),
    ] : []);
  }

  drawHead() {
    const { page, data } = this;
    const sort = page.state.sort ?? "-trial";
    const ids = data.rows.map((one) => one.trial);
    const all = ids.length && ids.every((id) => page.state.trials.includes(id));
    const everything = () => page.go({ trials: all ? page.state.trials.filter((id) => !ids.includes(id))
      : [...new Set([...page.state.trials, ...ids])] }, { replace: true });
    put(this.parts.head, h("tr", {},
      h("th", { class: "pick" }, h("input", { type: "checkbox", "aria-label": "Select all trials of this page", "data-key": "all", checked: all, onchange: everything })),
      data.columns.map((column) => {
        if (this.isHidden(column)) return null;
        const now = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : undefined;
        const next = now === "descending" ? column.key : `-${column.key}`;
        return h("th", { scope: "col", class: column.group, "aria-sort": now },
          column.sorts ? h("button", { type: "button", "data-key": `sort ${column.key}`,
            onclick: () => page.go({ sort: next === "-trial" ? undefined : next, start: undefined }, { replace: true }) },
          column.title, h("span", { class: "arrow", "aria-hidden": "true" }, now === "ascending" ? "↑" : now ? "↓" : "")) : h("span", {}, column.title));
      })));
  }

  drawBody() {
    const { page, data } = this;
    const shown = data.columns.map((column, i) => [column, i]).filter(([column]) => !this.isHidden(column));
    const plan = shown.map(([column]) => column.key).join("\n");
    const kept = new Map();
    const body = this.parts.body;
    const key = body.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const lines = data.rows.map((row) => {
      const picked = page.state.trials.includes(row.trial);
      const mark = JSON.stringify([plan, row, picked, page.state.trials]);
      const old = this.nodes.get(row.trial);
      const node = old?.mark === mark ? old.node : this.line(row, shown, picked);
      kept.set(row.trial, { mark, node });
      return node;
    });
    this.nodes = kept;
    if (lines.length !== body.children.length || lines.some((node, i) => body.children[i] !== node)) {
      body.replaceChildren(...lines);
      if (key) [...body.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus({ preventScroll: true });
    }
    this.ages();
  }

  line(row, shown, picked) {
    const { page } = this;
    const flip = () => page.go({ trials: picked ? page.state.trials.filter((id) => id !== row.trial)
      : [...page.state.trials, row.trial] }, { replace: true });
    return h("tr", { class: picked ? "picked" : undefined, dataset: { trial: row.trial } },
      h("td", { class: "pick" }, h("input", { type: "checkbox", checked: picked, "data-key": `pick ${row.trial}`,
        "aria-label": `Select trial ${row.trial}`, onchange: flip })),
      shown.map(([column, i]) => this.cell(column, row.cells[i], row)));
  }

  cell(column, [value, kind, title], row) {
    if (column.key === "trial") {
      return h("th", { scope: "row", class: "id" }, h("a", { ...this.page.to({ tab: "trial", trial: row.trial }),
        "data-key": `trial ${row.trial}`, "aria-label": `Trial ${row.trial}` }, row.trial));
    }
    if (column.key === "status") return h("td", {}, badge(row.status));
    if (kind === "time") {
      return h("td", { class: "time" }, h("time", { title: moment(value), dataset: { at: value } }, ago(value)));
    }
    if (kind === "duration") return h("td", { class: "number" }, duration(value));
    return h("td", { class: `${kind} ${column.group}`, title }, kind === "none" ? h("span", { class: "hidden" }, "none") : value);
  }

  drawPager() {
    const { page, data } = this;
    const { start, size, found } = data;
    const last = Math.floor((found - 1) / size) * size;
    const link = (text, label, to, off) => off
      ? h("span", { class: "button off", "aria-hidden": "true" }, text)
      : h("a", { class: "button", "aria-label": label, "data-key": label, ...page.to({ start: to || undefined }) }, text);
    put(this.parts.pager,
      link("«", "First page", 0, !start), link("‹", "Previous page", start - size, !start),
      h("span", { class: "range" }, `${count(start + 1)}–${count(Math.min(start + size, found))} of ${count(found)}`),
      link("›", "Next page", start + size, start >= last), link("»", "Last page", last, start >= last),
      h("label", { class: "quiet" }, "Rows ", h("select", { "data-key": "rows",
        onchange: (event) => page.go({ size: event.target.value === "50" ? undefined : event.target.value, start: undefined }, { replace: true }) },
      SIZES.map((one) => h("option", { value: one, selected: one === size }, one)))));
  }
}

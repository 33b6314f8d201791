// The table of trials: sorted, filtered and cut into pages by the server.

import { arranged, copyInFull, freeze, isHidden, menu as columnMenu } from "./columns.js";
import { badge, h, notice, put } from "./dom.js";
import { groups } from "./groups.js";
import { ask, look, of, ranges } from "./state.js";
import { ago, count, duration, plural, when } from "./format.js";

const STATUSES = ["running", "succeeded", "pruned", "failed", "interrupted", "lost"];
const SIZES = [25, 50, 100, 200];
/** Trials that are selected one by one; of more the filter that finds them is selected. */
const MOST = 1000;

export function trials(page) {
  const view = new Table(page);
  return {
    shown: () => view.data !== null,
    refresh: (fresh) => view.refresh(fresh),
    close: () => document.removeEventListener("copy", copyInFull),
  };
}

class Table {
  constructor(page) {
    this.page = page;
    this.data = null;
    this.seen = "";
    this.parts = null;
    this.nodes = new Map();
    document.addEventListener("copy", copyInFull);
  }

  async refresh(fresh) {
    const { state } = this.page;
    const query = { ...look(state), group: state.group,
      start: state.start ?? 0, size: state.size ?? 50, seen: fresh ? "" : this.seen };
    let found;
    try {
      found = await ask(of(state.experiment, "trials"), query, this.page.signal());
    } catch (error) {
      if (error.kind !== "filter" || !this.parts) {
        if (error.kind !== "filter") throw error;
        found = await ask(of(state.experiment, "trials"), { size: 1 }, this.page.signal());
        this.draw({ ...found, rows: [], found: 0, became: "", groups: null });
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
    if (this.parts.wrong.textContent !== text) this.parts.wrong.textContent = text;
    this.parts.wrong.hidden = !text;
    if (text) this.parts.became.hidden = true;
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
    parts.became.hidden = !found.became;
    put(parts.became, "Read as ", h("code", { class: "mono" }, found.became), " ",
      h("button", { type: "button", class: "plain", "data-key": "take became", onclick: () => { parts.filter.value = found.became; this.page.go({ filter: found.became }); } }, "Write it so"));
    this.drawReading(found);
    put(parts.summary, found.reading ? `the latest ${plural(found.total, "trial")}` : plural(found.total, "trial"),
      found.damaged ? h("span", { class: "warning" }, ` · ${plural(found.damaged, "damaged record")} left out`) : "",
      h("span", { class: "mono address" }, ` · ${found.address}`));
    this.drawChips();
    this.drawColumns();
    this.drawSelection();
    const empty = !found.total || !found.rows.length;
    const isGrouped = Boolean(found.groups) && !empty;
    parts.scroll.hidden = parts.pager.hidden = empty || isGrouped;
    put(parts.empty, empty ? this.nothing() : isGrouped ? groups(this.page, found) : []);
    if (empty || isGrouped) return;
    this.drawHead();
    this.drawBody();
    this.drawPager();
    freeze(this.parts.table);
  }

  /** A long history that nobody read before: what stands here is of the latest trials alone. */
  drawReading({ reading, total }) {
    const { parts } = this;
    parts.reading.hidden = !reading;
    if (!reading) return;
    put(parts.reading, h("progress", { max: reading.of, value: reading.read, "aria-label": "Trials that are read" }), " ",
      reading.problem
        ? [h("span", { class: "wrong" }, `Older trials cannot be read: ${reading.problem}`), " It is tried again by itself. "]
        : `${count(reading.read)} of ${count(reading.of)} trials are read. `,
      `Until all are, filters, sorting and numbers know the latest ${count(total)} alone.`);
  }

  nothing() {
    if (this.data.deleted) {
      return notice("empty", "The experiment was deleted", "Its trials are gone from the store. If it is begun anew, its trials appear here by themselves.",
        h("p", {}, h("a", { href: "./" }, "All experiments")));
    }
    if (!this.data.total) {
      return notice("empty", "No trial yet", "Compute a result of this experiment: its trial appears here while it runs.");
    }
    return notice("empty", "No trial fits", `None of the ${this.data.reading ? "latest " : ""}${plural(this.data.total, "trial")} passes the filter${this.data.archived && !this.page.state.archived ? "; what is archived is hidden" : ""}.`,
      h("p", {}, h("a", this.page.to({ filter: undefined, status: undefined, start: undefined }), "Show all trials")));
  }

  // What stays while rows come and go.
  frame() {
    const { page } = this;
    let wait = 0;
    // The first letter is a step to go back to, those that follow it are the same step.
    const search = () => {
      if ((page.state.filter ?? "") === parts.filter.value) return;
      page.go({ filter: parts.filter.value || undefined, start: undefined, found: undefined }, { replace: typing });
      typing = true;
    };
    let typing = false;
    const parts = this.parts = {
      summary: h("p", { class: "quiet" }),
      filter: h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false",
        placeholder: "lr > 0.1 and kind == 'rbf', or any word", "aria-describedby": "filter-wrong",
        onblur: () => { typing = false; },
        oninput: () => { clearTimeout(wait); wait = setTimeout(search, 250); },
        onkeydown: (event) => { if (event.key === "Enter") { clearTimeout(wait); search(); } } }),
      wrong: h("p", { class: "wrong", id: "filter-wrong", role: "alert", hidden: true }),
      became: h("p", { class: "became quiet", hidden: true }),
      reading: h("p", { class: "became quiet", hidden: true }),
      group: h("select", { id: "group", "data-key": "group", onchange: (event) => page.go({ group: event.target.value || undefined, start: undefined }) }),
      archived: h("button", { type: "button", class: "chip", "data-key": "archived",
        onclick: () => page.go({ archived: page.state.archived ? undefined : "1", start: undefined }) }),
      chips: h("div", { class: "chips", role: "group", "aria-label": "Show only trials that are" }),
      columns: h("div", { class: "menu", role: "group", "aria-label": "Columns" }),
      differ: h("button", { type: "button", class: "chip", "data-key": "differ",
        title: "Hide parameters that are the same in all these trials",
        onclick: () => page.go({ differ: page.state.differ ? undefined : "1" }) }, "Only what differs"),
      selection: h("div", { class: "selection", role: "region", "aria-label": "Selected trials" }),
      empty: h("div"),
      head: h("thead"),
      body: h("tbody"),
      pager: h("nav", { class: "pager", "aria-label": "Pages" }),
    };
    parts.scroll = h("div", { class: "scroll trials", tabindex: "0", role: "region", "aria-label": "Trials" },
      parts.table = h("table", {}, h("caption", { class: "hidden" }, "Trials"), parts.head, parts.body));
    // It opens to the side where there is room.
    const aside = () => menu.classList.toggle("left", menu.getBoundingClientRect().right < 420);
    const menu = h("details", { class: "drop", ontoggle: aside }, h("summary", { class: "chip" }, "Columns"), parts.columns);
    document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
    });
    put(page.main,
      h("div", { class: "heading" }, h("h1", {}, page.state.experiment), parts.summary),
      h("div", { class: "tools" },
        h("div", { class: "field grow" }, h("label", { for: "filter", class: "hidden" }, "Filter trials"), parts.filter),
        parts.chips, parts.archived, parts.differ, h("label", { class: "field" }, h("span", {}, "Group by"), parts.group), menu),
      parts.wrong, parts.became, parts.reading, parts.selection, parts.empty, parts.scroll, parts.pager);
  }

  drawChips() {
    const { page, data } = this;
    const on = (page.state.status ?? "").split(",").filter(Boolean);
    put(this.parts.chips, STATUSES.filter((status) => data.counts[status] || on.includes(status)).map((status) => {
      const pressed = on.includes(status);
      const next = pressed ? on.filter((one) => one !== status) : [...on, status];
      return h("button", { type: "button", class: "chip", "aria-pressed": String(pressed), "data-key": `status ${status}`,
        onclick: () => page.go({ status: next.join(",") || undefined, start: undefined }) },
      badge(status), h("span", { class: "quiet" }, count(data.counts[status] ?? 0)));
    }));
    this.parts.differ.setAttribute("aria-pressed", String(Boolean(page.state.differ)));
    const { archived, group } = this.parts;
    archived.hidden = !data.archived;
    archived.setAttribute("aria-pressed", String(Boolean(page.state.archived)));
    put(archived, `${count(data.archived)} archived`);
    const options = data.columns.filter((one) => one.group === "parameter" && one.sorts);
    const keys = options.map((one) => one.key);
    if (page.state.group && !keys.includes(page.state.group)) keys.push(page.state.group);
    const mark = JSON.stringify([keys, page.state.group]);
    if (group.dataset.mark === mark) return;
    group.dataset.mark = mark;
    put(group, h("option", { value: "" }, "nothing"), keys.map((key) => h("option", { value: key, selected: key === page.state.group }, key.trim() || "(empty)")));
  }

  drawColumns() {
    columnMenu(this.page, this.parts.columns, this.data.columns);
  }

  shownColumns() {
    const { state } = this.page;
    return arranged(this.data.columns, state).filter((one) => !isHidden(one, state));
  }

  drawSelection() {
    const { page, parts, data } = this;
    const { trials } = page.state;
    const isAll = page.state.found === "1";
    const many = isAll ? data.found : trials.length;
    const more = data.found > data.rows.length && !isAll && data.found > trials.length;
    parts.selection.hidden = !many;
    const few = ranges(trials).split(",");
    const told = isAll ? " all that the filter finds" : ` ${few.slice(0, 8).join(", ")}${few.length > 8 ? " …" : ""}`;
    put(parts.selection, many ? [
      h("span", {}, h("strong", {}, `${count(many)} selected`), h("span", { class: "quiet" }, told)),
      h("a", { class: "button", ...page.to({ tab: "metrics" }) }, "Metrics"),
      h("a", { class: "button", ...page.to({ tab: "parameters", only: "1" }) }, "Parameters"),
      many >= 2 ? h("a", { class: "button", ...page.to({ tab: "compare" }) }, "Compare") : null,
      more ? h("button", { type: "button", class: "button", "data-key": "all found", onclick: () => this.selectFound() }, `Select all ${count(data.found)} found`) : null,
      h("button", { type: "button", class: "plain", "data-key": "clear", onclick: () => page.go({ trials: [], found: undefined }, { replace: true }) }, "Clear"),
    ] : []);
  }

  async selectFound() {
    const { page } = this;
    if (this.data.found > MOST) { page.go({ trials: [], found: "1" }, { replace: true }); return; }
    const { ids } = await ask(of(page.state.experiment, "found"), look(page.state), page.signal());
    page.go({ trials: ids, found: undefined }, { replace: true });
  }

  isPicked(trial) {
    return this.page.state.found === "1" || this.page.state.trials.includes(trial);
  }

  /** The trials that are selected; of all that the filter finds those of this page. */
  picked() {
    return this.page.state.found === "1" ? this.data.rows.map((one) => one.trial) : this.page.state.trials;
  }

  drawHead() {
    const { page, data } = this;
    const sort = page.state.sort ?? "-Trial ID";
    const ids = data.rows.map((one) => one.trial);
    const all = ids.length && ids.every((id) => this.isPicked(id));
    const everything = () => page.go({ found: undefined, trials: all ? this.picked().filter((id) => !ids.includes(id))
      : [...new Set([...page.state.trials, ...ids])] }, { replace: true });
    put(this.parts.head, h("tr", {},
      h("th", { class: "pick pinned" }, h("input", { type: "checkbox", "aria-label": "Select all trials of this page", "data-key": "all", checked: all, onchange: everything })),
      this.shownColumns().map((column) => {
        const now = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : undefined;
        const next = now === "descending" ? column.key : `-${column.key}`;
        return h("th", { scope: "col", class: `${column.group}${column.numeric ? " numeric" : ""}${column.pinned ? " pinned" : ""}`, "aria-sort": now },
          column.sorts ? h("button", { type: "button", "data-key": `sort ${column.key}`,
            onclick: () => page.go({ sort: next === "-Trial ID" ? undefined : next, start: undefined }) , title: column.title.length > 26 ? column.title : undefined },
          column.title, h("span", { class: "arrow", "aria-hidden": "true" }, now === "ascending" ? "↑" : now ? "↓" : "")) : h("span", {}, column.title));
      })));
  }

  drawBody() {
    const { page, data } = this;
    const shown = this.shownColumns();
    const plan = shown.map((column) => `${column.key} ${column.pinned}`).join("\n");
    const kept = new Map();
    const body = this.parts.body;
    const key = body.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const lines = data.rows.map((row) => {
      const picked = this.isPicked(row.trial);
      const mark = JSON.stringify([plan, row, picked, location.search]);
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
    const flip = () => page.go({ found: undefined, trials: picked ? this.picked().filter((id) => id !== row.trial)
      : [...page.state.trials, row.trial] }, { replace: true });
    return h("tr", { class: `${picked ? "picked" : ""}${row.archived ? " archived" : ""}`, dataset: { trial: row.trial } },
      h("td", { class: "pick pinned" }, h("input", { type: "checkbox", checked: picked, "data-key": `pick ${row.trial}`,
        "aria-label": `Select trial ${row.trial}`, onchange: flip })),
      shown.map((column) => this.cell(column, row.cells[column.at], row)));
  }

  cell(column, [value, kind, full], row) {
    const pinned = column.pinned ? " pinned" : "";
    if (column.key === "Trial ID") {
      return h("th", { scope: "row", class: `id${pinned}` }, h("a", { ...this.page.to({ tab: "trial", trial: row.trial }),
        "data-key": `trial ${row.trial}`, "aria-label": `Trial ${row.trial}` }, row.trial));
    }
    if (column.key === "Status") return h("td", { class: `status${pinned}` }, badge(row.status), row.archived ? h("span", { class: "quiet" }, " archived") : null);
    if (kind === "time") {
      return h("td", { class: `time${pinned}`, dataset: { full: when(value).datetime } }, h("time", { ...when(value), dataset: { at: value } }, ago(value)));
    }
    if (kind === "duration") return h("td", { class: `number${pinned}`, title: `${value} s`, dataset: { full: value } }, duration(value));
    return h("td", { class: `${kind} ${column.group}${pinned}`, title: full ?? (kind === "number" ? value : undefined), dataset: full === undefined ? {} : { full } },
      kind === "none" ? h("span", { class: "hidden" }, "none") : value);
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
        onchange: (event) => page.go({ size: event.target.value === "50" ? undefined : event.target.value, start: undefined }) },
      SIZES.map((one) => h("option", { value: one, selected: one === size }, one)))));
  }
}

// Which columns of the table are shown, in which order, and which stay where they are: in the address.

import { h, put } from "./dom.js";

const FIRST = "Trial ID";

/** The columns in the order of the address: the first, those that are pinned, and the others. */
export function arranged(columns, state) {
  const { pin, order } = state;
  const place = (list, key) => (list.includes(key) ? list.indexOf(key) : list.length);
  const rank = (column, i) => (column.key === FIRST ? [-1, 0, 0]
    : [place(pin, column.key), place(order, column.key), i]);
  return columns.map((column, i) => ({ ...column, at: i, rank: rank(column, i), pinned: column.key === FIRST || pin.includes(column.key) }))
    .sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1] || a.rank[2] - b.rank[2]);
}

export function isHidden(column, state) {
  const { hide, differ, pin } = state;
  if (column.key === FIRST || pin.includes(column.key)) return false;
  if (column.group === "parameter" && differ && !column.differs) return true;
  return hide.includes(column.key) ? !column.hidden : Boolean(column.hidden);
}

/** The menu that hides, pins and moves columns. */
export function menu(page, place, columns) {
  const { state } = page;
  const shown = arranged(columns, state).filter((one) => one.key !== FIRST);
  const flipped = (list, key) => (list.includes(key) ? list.filter((one) => one !== key) : [...list, key]);
  const move = (column, by) => {
    const order = shown.filter((one) => one.pinned === column.pinned).map((one) => one.key);
    const from = order.indexOf(column.key);
    const to = Math.max(0, Math.min(order.length - 1, from + by));
    order.splice(to, 0, ...order.splice(from, 1));
    page.go(column.pinned ? { pin: order } : { order: order.slice(0, Math.max(to, ...state.order.map((key) => order.indexOf(key)), from) + 1) });
  };
  const button = (column, key, sign, label, onclick, pressed) => h("button", { type: "button", class: "icon", "data-key": `${key} ${column.key}`,
    "aria-label": `${label} ${column.title}`, title: label, "aria-pressed": pressed, onclick }, sign);
  put(place, shown.map((column) => h("div", { class: "column" },
    h("label", {}, h("input", { type: "checkbox", "data-key": `column ${column.key}`, checked: !isHidden(column, state), disabled: column.pinned,
      onchange: () => page.go({ hide: flipped(state.hide, column.key) }) }), " ", column.title,
    column.group === "metric" ? h("span", { class: "quiet" }, " metric") : null),
    button(column, "pin", "⇤", "Pin", () => page.go({ pin: flipped(state.pin, column.key) }), String(column.pinned)),
    button(column, "up", "↑", "Move to the front", () => move(column, -1)),
    button(column, "down", "↓", "Move to the back", () => move(column, 1)))),
  state.hide.length + state.pin.length + state.order.length
    ? h("button", { type: "button", class: "plain", "data-key": "as before", onclick: () => page.go({ hide: [], pin: [], order: [] }) }, "As they were") : null);
}

/** Keep pinned columns where they are while the others move: each beside the one before it. */
export function freeze(table) {
  const head = table.tHead.rows[0];
  if (!head) return;
  const lefts = [];
  let left = 0;
  for (const cell of head.cells) {
    if (!cell.classList.contains("pinned")) break;
    lefts.push(left);
    left += cell.offsetWidth;
  }
  const narrow = left > table.parentElement.clientWidth * 0.6;
  for (const row of table.rows) {
    for (let i = 0; i < lefts.length; i += 1) {
      const cell = row.cells[i];
      // Where they would take most of the room, only the first stay.
      if (narrow && i > 1) { cell.style.left = "auto"; continue; }
      cell.style.left = `${lefts[i]}px`;
    }
  }
}

/** What is copied of a table: each number in full, cells with tabs between them. */
export function copyInFull(event) {
  const selection = getSelection();
  if (!selection || selection.isCollapsed || !event.clipboardData) return;
  const lines = [];
  for (const row of document.querySelectorAll("main .trials tr")) {
    if (!selection.containsNode(row, true)) continue;
    const cells = [...row.cells].filter((one) => selection.containsNode(one, true) && !one.classList.contains("pick"));
    if (cells.length) lines.push(cells.map((one) => one.dataset.full ?? one.textContent.trim()).join("\t"));
  }
  if (!lines.length) return;
  event.clipboardData.setData("text/plain", lines.join("\n"));
  event.preventDefault();
}

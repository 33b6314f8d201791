// The page's frame: which view is shown, when it asks for news, and how trouble is told.

import { h, notice, put, skeleton } from "./dom.js";
import { address, ask, of, read, spent } from "./state.js";
import { experiments } from "./experiments.js";
import { trials } from "./trials.js";
import { metrics } from "./metrics.js";
import { parameters } from "./parameters.js";
import { compare } from "./compare.js";
import { trial } from "./trial.js";

const TABS = [["trials", "Trials"], ["metrics", "Metrics"], ["parameters", "Parameters"],
  ["compare", "Compare"], ["trial", "Trial"]];
const VIEWS = { experiments, trials, metrics, parameters, compare, trial };
const NEWS = 1000;
const SHORTEST = 200;
const PATIENCE = 8000;
/** What may be there a moment later: an experiment or a trial that is about to begin. */
const COMING = ["no experiment", "no trial"];

const main = document.querySelector("main");
const banner = document.querySelector(".banner");
const live = document.querySelector(".live");
let state = read();
let view = null;
let timer = 0;
let turn = 0;
let abort = new AbortController();
let failures = 0;
let took = 0;
let known = {};

const page = {
  main,
  get state() { return state; },
  link: (changes) => address({ ...state, ...changes }),
  go(changes, { replace = false } = {}) {
    const next = address({ ...state, ...changes });
    history[replace ? "replaceState" : "pushState"](null, "", next);
    show();
  },
  /** An attribute set of a link within the page, from wherever the page is when it is followed. */
  to: (changes) => ({ href: page.link(changes),
    onclick: (event) => event.currentTarget.setAttribute("href", page.link(changes)) }),
  theme: () => document.documentElement.dataset.theme
    || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
  signal: () => abort.signal,
};

function nameOfView() {
  if (!state.experiment) return "experiments";
  return TABS.some(([key]) => key === state.tab) ? state.tab : "trials";
}

function show() {
  const before = view;
  const earlier = state.experiment;
  state = read();
  const name = nameOfView();
  drawFrame(name);
  abort.abort();
  abort = new AbortController();
  if (before?.name !== name || earlier !== state.experiment) {
    before?.close?.();
    put(main, skeleton());
    view = { name, ...VIEWS[name](page) };
    failures = 0;
    banner.hidden = true;
    tell("waiting", "Loading");
  }
  news(true);
}

function drawFrame(name) {
  const experiment = state.experiment;
  put(document.querySelector(".crumbs"), h("ol", {},
    h("li", {}, h("a", { href: "./", "aria-current": experiment ? undefined : "page" }, "Experiments")),
    experiment && h("li", {}, h("a", { href: address({ experiment }), "aria-current": name === "trials" ? "page" : undefined }, experiment)),
    name === "trial" && h("li", {}, h("a", { href: location.search, "aria-current": "page" }, `Trial ${state.trial ?? ""}`))));
  const tabs = document.querySelector(".tabs");
  tabs.hidden = !experiment;
  const shown = TABS.filter(([key]) => key !== "trial" || state.trial);
  put(tabs, experiment ? shown.map(([key, title]) => h("a", {
    ...page.to({ tab: key === "trials" ? undefined : key }), "data-key": key,
    "aria-current": key === name ? "page" : undefined,
  }, key === "trial" ? `Trial ${state.trial}` : title,
  key === "metrics" && state.trials.length ? h("span", { class: "pill", "aria-label": `${state.trials.length} selected` }, state.trials.length) : null)) : []);
  const current = tabs.querySelector("[aria-current]");
  if (current) tabs.scrollLeft = Math.max(0, current.offsetLeft + current.offsetWidth - tabs.clientWidth + 12);
  const title = TABS.find(([key]) => key === name)?.[1];
  document.title = [name === "trial" ? `Trial ${state.trial}` : title, experiment, "daskperiment"]
    .filter(Boolean).join(" · ");
}

async function news(fresh = false) {
  clearTimeout(timer);
  const mine = ++turn;
  const start = performance.now();
  let pause = NEWS;
  spent();
  try {
    if (await view.refresh(fresh) === false) await look();
    if (mine !== turn) return;
    failures = 0;
    banner.hidden = true;
    tell("live", "Live");
    // A slow store is asked less often: one that is slow twice, as figures are made once. What
    // drawing costs is no reason to ask later.
    const now = spent();
    pause = Math.max(SHORTEST, NEWS - (performance.now() - start), Math.min(PATIENCE, 2 * Math.min(now, took) - NEWS));
    took = now;
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    failures += 1;
    pause = trouble(error);
  }
  timer = setTimeout(() => (document.hidden ? tell("paused", "Paused") : news()), pause);
}

/** A view that has all it needs asks for nothing: is the store still there, and the experiment? */
async function look() {
  const { experiment } = state;
  if (known.experiment !== experiment) known = { experiment };
  const found = await ask(of(experiment, "trials"), { size: 1, seen: known.version }, abort.signal);
  if (found.unchanged) return;
  if (found.deleted) {
    known = { experiment };
    throw Object.assign(new Error("Its trials are gone from the store."), { kind: "deleted" });
  }
  if (known.resets !== undefined && known.resets !== found.resets) {
    view = { name: view.name, ...VIEWS[view.name](page) };
    await view.refresh(true);
  }
  known = { experiment, version: found.version, resets: found.resets };
}

function trouble(error) {
  const away = ["store away", "server away"].includes(error.kind);
  if (!away && !["store", "damaged", "no experiment", "no trial", "refused", "filter", "fault", "deleted"].includes(error.kind)) {
    console.error(error);
  }
  const titles = { "store away": "The store is away", "server away": "The dashboard was stopped",
    "no experiment": "No such experiment", deleted: "The experiment was deleted", "no trial": "No such trial", damaged: "Something is damaged",
    filter: "The filter is not understood" };
  const title = titles[error.kind] ?? "This cannot be shown";
  tell("away", away ? "Away, trying again" : "Error");
  if (view.shown?.()) {
    put(banner, h("strong", {}, title), " ", error.message, away ? " What stands below is from before; it is asked for again by itself."
      : error.kind === "deleted" ? " What stands below is from before." : "");
    banner.hidden = false;
  } else {
    banner.hidden = true;
    put(main, h("h1", { class: "hidden" }, state.experiment || "Experiments"), notice(away ? "away" : "error", title, error.message,
      away ? "It is asked for again by itself." : h("p", {}, h("a", { href: state.experiment && error.kind !== "no experiment" ? address({ experiment: state.experiment }) : "./" }, "Go back"))));
    view = { name: view.name, ...VIEWS[view.name](page) };
  }
  return COMING.includes(error.kind) ? NEWS : Math.min(PATIENCE, NEWS * 2 ** Math.min(failures, 3));
}

function tell(kind, words) {
  live.className = `live ${kind}`;
  const place = live.querySelector(".words");
  // Said aloud when it changes, and not once a second.
  if (place.textContent !== words) place.textContent = words;
}

// Links within the page do not load it anew.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey
    || event.shiftKey || link.target) return;
  const raw = link.getAttribute("href");
  if (!raw.startsWith("./") && !raw.startsWith("?")) return;
  event.preventDefault();
  history.pushState(null, "", raw);
  show();
  if (link.closest(".tabs, .crumbs, .pager")) return;
  scrollTo(0, 0);
  // From here a keyboard and a screen reader go on within the new view.
  main.focus({ preventScroll: true });
});
addEventListener("popstate", () => {
  // What stood in a field is of the address that was left.
  if (document.activeElement?.matches("main input[type=search]")) document.activeElement.blur();
  show();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && view) news(); });

// Colours: as the system, light, dark.
const THEMES = ["", "light", "dark"];
const button = document.querySelector("#theme");
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  button.textContent = { "": "◐", light: "☀", dark: "☾" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme || "as the system"}`);
  button.title = button.getAttribute("aria-label");
}
function remember(theme) { try { localStorage.setItem("theme", theme); } catch { /* not allowed in a frame */ } }
function remembered() { try { return localStorage.getItem("theme"); } catch { return ""; } }
setTheme(THEMES.includes(remembered()) ? remembered() : "");
button.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  setTheme(next);
  remember(next);
  view?.recolour?.();
  news(true);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { view?.recolour?.(); news(true); });

show();

// The address holds what the page shows, so that it can be shared and the back button works.

const LISTS = ["trials", "metric", "hide", "pin", "order"];
const MOST = 100000;

export function read(search = location.search) {
  const given = new URLSearchParams(search);
  const state = Object.fromEntries([...given].filter(([name]) => !LISTS.includes(name)));
  for (const name of LISTS.slice(1)) state[name] = given.getAll(name);
  state.trials = numbers(given.get("trials") ?? "");
  return state;
}

/** The trials that a text such as 3,7-9 names. */
export function numbers(text) {
  const found = [];
  for (const part of text.split(",")) {
    const [, first, last] = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(part.trim()) ?? [];
    if (first === undefined) continue;
    for (let id = Number(first); id <= Number(last ?? first) && found.length < MOST; id += 1) found.push(id);
  }
  return [...new Set(found)];
}

/** Trials as a short text: three that follow each other, or more, as the first and the last. */
export function ranges(trials) {
  const parts = [];
  for (let at = 0; at < trials.length;) {
    let end = at;
    while (trials[end + 1] === trials[end] + 1) end += 1;
    if (end - at >= 2) parts.push(`${trials[at]}-${trials[end]}`);
    else for (let i = at; i <= end; i += 1) parts.push(trials[i]);
    at = end + 1;
  }
  return parts.join(",");
}

/** What the server is asked of the selected trials: their numbers, or all that the filter finds. */
export const chosen = (state) => (state.found === "1"
  ? { found: "1", ...look(state) } : { trials: ranges(state.trials) });

/** Which trials the table shows. */
export const look = (state) => ({ filter: state.filter, status: state.status, sort: state.sort, archived: state.archived });

export function address(state) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "trials") { if (value.length) query.set(name, ranges(value)); }
    else if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `./?${text}` : "./";
}

let waited = 0;

/** Milliseconds that the server took for answers since this was asked last.

    By its own account: a page that draws comes late to an answer, and must not take that for a slow
    store, or what it draws would make it ask later and later. */
export function spent() {
  const past = waited;
  waited = 0;
  return past;
}

/** Question the server about the current experiment, or another address. */
export async function ask(path, query = {}, signal) {
  let response;
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) value.forEach((one) => given.append(name, one));
    else if (value !== undefined && value !== null && value !== "") given.set(name, value);
  }
  try {
    response = await fetch(`api/${path}?${given}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The dashboard's server does not answer. It may have been stopped."), { kind: "server away" });
  }
  waited += Number(/dur=([\d.]+)/.exec(response.headers.get("Server-Timing"))?.[1] ?? 0);
  if (response.ok) return response.json();
  let told;
  try { told = (await response.json()).error; } catch { told = undefined; }
  throw Object.assign(new Error(told?.message ?? `The server refused this (${response.status}).`),
    { kind: told?.kind ?? "refused" });
}

export const of = (experiment, rest) => `experiments/${encodeURIComponent(experiment)}/${rest}`;

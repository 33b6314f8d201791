// The address holds what the page shows, so that it can be shared and the back button works.

const LISTS = ["trials", "metric", "hide"];

export function read(search = location.search) {
  const given = new URLSearchParams(search);
  const state = Object.fromEntries([...given].filter(([name]) => !LISTS.includes(name)));
  state.metric = given.getAll("metric");
  state.hide = given.getAll("hide");
  state.trials = (given.get("trials") ?? "").split(",").filter((one) => /^\d{1,15}$/.test(one)).map(Number);
  return state;
}

export function address(state) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "trials") { if (value.length) query.set(name, value.join(",")); }
    else if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `./?${text}` : "./";
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
  if (response.ok) return response.json();
  let told;
  try { told = (await response.json()).error; } catch { told = undefined; }
  throw Object.assign(new Error(told?.message ?? `The server refused this (${response.status}).`),
    { kind: told?.kind ?? "refused" });
}

export const of = (experiment, rest) => `experiments/${encodeURIComponent(experiment)}/${rest}`;

// Times, durations and sizes for people.

export const count = (number) => Number(number).toLocaleString("en");

/** A name as a word that can be seen. */
export const named = (name) => (String(name).trim() ? name : "(empty)");

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export function size(bytes) {
  let rest = bytes ?? 0, unit = 0;
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  while (rest >= 1024 && unit < units.length - 1) { rest /= 1024; unit += 1; }
  return unit ? `${rest.toFixed(1)} ${units[unit]}` : `${rest} bytes`;
}

export const moment = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit",
  second: "2-digit", timeZoneName: "short" });

/** A time as the page shows it everywhere: how long ago, and on hover when, with the zone. */
export const when = (seconds) => ({ title: moment(seconds), datetime: new Date(seconds * 1000).toISOString() });

/** A number in short: six figures. */
export const short = (number) => (Number.isInteger(number) ? String(number) : String(Number(number.toPrecision(6))));

export function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 0 || past > 7 * 86400) return moment(seconds);
  if (past < 10) return "just now";
  if (past < 60) return `${Math.floor(past / 10) * 10} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86400) return `${Math.floor(past / 3600)} h ago`;
  return plural(Math.floor(past / 86400), "day") + " ago";
}

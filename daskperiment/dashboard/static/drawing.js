// A trial's graph, and its steps in time.

import { h, s } from "./dom.js";
import { duration, moment, plural } from "./format.js";

const [WIDE, HIGH, GAP, ROW] = [176, 58, 56, 78];

export function graph(found) {
  const { nodes, edges, layers, rows } = found.graph;
  const runs = new Map(found.steps.map((one) => [one.key, one]));
  const place = new Map(nodes.map((one) => [one.key, [10 + one.layer * (WIDE + GAP), 10 + one.row * ROW]]));
  const [width, height] = [layers * (WIDE + GAP) - GAP + 20, rows * ROW - (ROW - HIGH) + 20];
  const told = nodes.map((one) => `${one.key} ${state(runs.get(one.key), found, one.key)}`).join("; ");
  const picture = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "graph",
    "aria-label": `Graph of ${plural(nodes.length, "step")}: ${told}` },
  edges.map(([from, to]) => {
    const [[x1, y1], [x2, y2]] = [place.get(from), place.get(to)];
    const [a, b] = [[x1 + WIDE, y1 + HIGH / 2], [x2, y2 + HIGH / 2]];
    const bend = Math.max(24, (b[0] - a[0]) / 2);
    return s("path", { class: "edge", d: `M${a} C${[a[0] + bend, a[1]]} ${[b[0] - bend, b[1]]} ${b}` });
  }),
  nodes.map((one) => node(one, place.get(one.key), runs.get(one.key), found)));
  return h("div", { class: "scroll bare", tabindex: "0", role: "region", "aria-label": "Graph" }, picture);
}

/** What is known of a step that did not end: its state, and since when. */
export const rest = ({ state, since }) => (since === null ? state : `${state} since ${moment(since)}`);

const state = (run, found, key) => (!run ? (key in found.unfinished ? rest(found.unfinished[key]) : found.status === "running" ? "not needed" : "not run")
  : run.reused ? `reused from ${run.reused}` : run.status === "succeeded" ? duration(run.wall) : `${run.status}, ${duration(run.wall)}`);

function node(one, [x, y], run, found) {
  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const kind = run ? (run.reused ? "reused" : run.status) : found.unfinished[one.key]?.state === "running" ? "running" : "waiting";
  const takes = one.parameters.join(", ");
  return s("g", { class: `node ${kind}`, transform: `translate(${x} ${y})` },
    s("title", {}, `${one.key}: ${state(run, found, one.key)}${takes ? `; takes ${takes}` : ""}`),
    s("rect", { width: WIDE, height: HIGH, rx: 8 }),
    s("rect", { class: "mark", width: 4, height: HIGH - 16, x: 7, y: 8, rx: 2 }),
    s("text", { x: 20, y: 24, class: "name" }, cut(one.key, 20)),
    s("text", { x: 20, y: 43 }, cut((run ? state(run, found, one.key) : found.unfinished[one.key]?.state ?? state(run, found, one.key)) + (takes ? ` · ${takes}` : ""), 26)));
}

export function timeline(found) {
  const runs = found.steps;
  const start = Math.min(...runs.map((one) => one.started));
  const end = Math.max(...runs.map((one) => one.started + one.wall));
  const span = Math.max(end - start, 1e-6);
  const lanes = new Map();
  for (const one of runs) lanes.set(one.lane, [...(lanes.get(one.lane) ?? []), one]);
  const percent = (seconds) => `${(100 * seconds) / span}%`;
  return h("div", { class: "timeline", role: "img", "aria-label": `${plural(runs.length, "step")} on ${plural(lanes.size, "worker or thread")} within ${duration(span)}; the table of steps has the figures` },
    [...lanes].map(([name, ones]) => h("div", { class: "lane" }, h("p", {}, name),
      h("div", { class: "track" }, ones.map((one) => h("span", { class: `run ${one.reused ? "reused" : one.status}`, title: `${one.key}: ${duration(one.wall)}`,
        style: { left: percent(one.started - start), width: percent(one.wall) } }, h("span", {}, one.key)))))),
    h("div", { class: "ticks", "aria-hidden": "true" }, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, part ? duration(span * part) : "0"))));
}


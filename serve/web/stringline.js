// The string-line diagram of a route: a line for each run, its place along the way over time. Runs that close up on each other are bunched.
import { Chart } from "/assets/charts.js";
import { $, button, make, svg } from "/assets/dom.js";
import { aheadMs, dayTime, zone } from "/assets/format.js";
import { delayClass } from "/assets/fleet.js";
import { base, getJson, look, on, store, vehiclesShown } from "/assets/store.js";
import { decimal, t } from "/assets/text.js";

const EVERY_S = 10;
const SHOWN_MS = 3600000;
const GAP_MS = 180000; // a run that was not seen for longer is not drawn through
const LABEL_PX = 15;
const STYLES = ["early", "on_time", "late", "very_late", "unknown"];

// Pieces of a run by how late it was, so that each can have its own colour and dashes.
function pieces(run) {
  const out = [];
  let before = null;
  run.at_ms.forEach((at, n) => {
    const point = [at, run.at_m[n], delayClass(run.delay_s[n])];
    if (point[1] === null) { before = null; return; }
    if (before && at - before[0] <= GAP_MS) {
      const last = out.at(-1);
      if (last && last.style === point[2] && last.points.at(-1) === before) last.points.push(point);
      else out.push({ style: point[2], points: [before, point] });
    } else out.push({ style: point[2], points: [point] });
    before = point;
  });
  return out;
}

function draw(d) {
  const width = Math.max(340, Math.min(1400, $("string").clientWidth || 800)), height = Math.max(320, Math.min(620, innerHeight - 330));
  const left = width < 600 ? 92 : 170;
  const chart = new Chart({ width, height, first: d.first_ms, last: d.last_ms, low: 0, high: d.length_m, left, label: t("string_label", { route: d.route_id, n: d.runs.length, km: decimal(d.length_m / 1000) }) });
  let above = Infinity;
  for (const street of d.streets) {
    const y = chart.y(street.at_m);
    if (above - y < LABEL_PX) continue;
    above = y;
    const name = left < 100 && street.name.length > 13 ? `${street.name.slice(0, 12)}…` : street.name.length > 25 ? `${street.name.slice(0, 24)}…` : street.name;
    chart.add(svg("line", { x1: left, x2: width - 8, y1: y, y2: y, class: "grid" }), svg("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, name));
  }
  chart.times(aheadMs);
  for (const run of d.runs) {
    const group = svg("g", { class: "run" }, svg("title", {}, [run.start_time ? t("trip_of", { t: run.start_time }) : null, `${t("vehicle")} ${run.vehicle_id}`].filter(Boolean).join(" · ")));
    for (const { style, points } of pieces(run)) {
      const at = points.map((p, n) => `${n ? "L" : "M"}${chart.x(p[0]).toFixed(1)} ${chart.y(p[1]).toFixed(1)}`).join("");
      group.append(svg("path", { d: points.length === 1 ? `${at}h2` : at, class: `string ${style}` }));
    }
    const last = run.at_ms.findLastIndex((_, n) => run.at_m[n] !== null);
    if (last >= 0 && d.last_ms - run.at_ms[last] < 120000) group.append(svg("circle", { cx: chart.x(run.at_ms[last]), cy: chart.y(run.at_m[last]), r: 4, class: `head ${delayClass(run.delay_s[last])}` }));
    chart.add(group);
  }
  return chart.node;
}

let asking = null;

export async function show() {
  if (store.view !== "lines" || !store.line || !store.logMs) return;
  const line = store.line, end = store.at ?? store.logMs, cut = line.lastIndexOf(":"), route = line.slice(0, cut);
  const when = `${new Date(end - SHOWN_MS).toISOString()}/${new Date(end).toISOString()}`;
  asking = `${line} ${end}`;
  const mine = asking;
  const d = await getJson(`${base()}/past/routes/${encodeURIComponent(route)}?direction_id=${line.slice(cut + 1)}&datetime=${when}`).catch(() => null);
  if (asking !== mine || !d) return;
  $("string-title").textContent = `${t("route")} ${d.route_id}${d.headsigns.length ? ` → ${d.headsigns.slice(0, 2).join(" / ")}` : ""}`;
  $("string-when").textContent = `${dayTime(d.first_ms)} – ${dayTime(d.last_ms)} ${zone(d.last_ms)}`;
  $("string").replaceChildren(d.runs.length ? draw(d) : make("p", t("string_none"), { class: "nothing" }));
}

function legend() {
  $("string-legend").replaceChildren(...STYLES.map((s) => make("li", [svg("svg", { viewBox: "0 0 34 10", class: "sample", "aria-hidden": "true" }, svg("path", { d: "M1 5H33", class: `string ${s}` })), t(s === "unknown" ? "delay_unknown" : s)])));
}

export function start() {
  let ticks = 0;
  legend();
  on("line view at loaded", show);
  on("tick", () => { ticks += 1; if (ticks % EVERY_S === 0 && store.at === null) show(); });
  addEventListener("resize", show);
  $("string-place").append(button(t("show_on_map"), () => {
    const route = store.line?.slice(0, store.line.lastIndexOf(":"));
    const box = new maplibregl.LngLatBounds();
    for (const v of vehiclesShown()) if (v.route_id === route && v.lon_deg !== undefined) box.extend([v.lon_deg, v.lat_deg]);
    look({ view: "map" });
    if (!box.isEmpty()) store.map.fit(box, { maxZoom: 15 });
  }));
}
/* global maplibregl */

// The board of lines: delay, headways and bunching of each route and direction. Where the product line-fluency is silent, what the vehicles themselves say.
import { $, button, make, refill, setText } from "/assets/dom.js";
import { delayText, percent } from "/assets/format.js";
import { linesShown, look, on, store, vehiclesShown } from "/assets/store.js";
import { decimal, t } from "/assets/text.js";

const FEW = 7; // in the side panel

function middle(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : undefined;
}

export function rows() {
  const seen = new Map();
  for (const v of vehiclesShown()) {
    if (!v.route_id) continue;
    const key = `${v.route_id}:${v.direction_id ?? 0}`;
    const row = seen.get(key) ?? { key, route: v.route_id, headsign: v.headsign, mode: v.mode, delays: [], vehicles: 0 };
    row.vehicles += 1;
    row.headsign ??= v.headsign;
    if (v.delay_s !== undefined) row.delays.push(v.delay_s);
    seen.set(key, row);
  }
  for (const [key, l] of linesShown()) {
    const row = seen.get(key) ?? { key, route: l.route_id, headsign: l.headsign, delays: [], vehicles: l.vehicles ?? 0 };
    seen.set(key, { ...row, told: l, delay: l.delay_p50_s ?? middle(row.delays), worst: l.delay_p90_s });
  }
  const all = [...seen.values()].map((r) => ({ ...r, delay: r.delay ?? middle(r.delays) }));
  const bad = (r) => (r.told?.bunched_share ?? 0) * 600 + Math.max(0, r.delay ?? 0) + Math.max(0, -(r.delay ?? 0) - 60) * 2;
  return all.sort((a, b) => bad(b) - bad(a) || (a.route < b.route ? -1 : 1));
}

function state(row) {
  if (row.delay === undefined) return "delay_unknown";
  if (row.delay < -60) return "early";
  return row.delay < 180 ? "on_time" : row.delay < 600 ? "late" : "very_late";
}

const dash = (value, format) => (value === undefined ? "–" : format(value));
const open = (row) => button([make("strong", row.route), make("small", row.headsign ?? t("direction", { n: row.key.slice(-1) }))], () => look({ view: "lines", line: row.key }), { "data-key": row.key, class: "route" });

const COLUMNS = [
  ["vehicles_short", (r) => String(r.vehicles), 1],
  ["delay", (r) => [make("span", "", { class: `disc ${state(r)}`, "aria-hidden": "true" }), dash(r.delay, delayText)], 1],
  ["delay_p90", (r) => dash(r.worst, delayText), 0],
  ["bunched", (r) => dash(r.told?.bunched_share, percent), 1],
  ["headway_cv", (r) => dash(r.told?.headway_cv, (v) => decimal(v, 2)), 0],
  ["speed", (r) => dash(r.told?.commercial_speed_kmh, (v) => `${decimal(v)} km/h`), 0],
  ["scheduled", (r) => dash(r.told?.scheduled_speed_kmh, (v) => `${decimal(v)} km/h`), 0],
  ["stopped", (r) => dash(r.told?.stopped_share, percent), 0],
];

export function table(list, wide) {
  const columns = COLUMNS.filter(([, , always]) => wide || always);
  return [
    make("thead", make("tr", [make("th", t("route"), { scope: "col" }), ...columns.map(([name]) => make("th", t(name), { scope: "col" }))])),
    make("tbody", list.map((r) => make("tr", [make("th", open(r), { scope: "row" }), ...columns.map(([, cell]) => make("td", cell(r)))],
      { "aria-current": wide && r.key === store.line ? "true" : null }))),
  ];
}

function show() {
  const all = rows();
  setText($("lines-count"), all.length ? String(all.length) : "");
  refill($("lines"), all.length ? table(all.slice(0, FEW), false) : []);
  $("lines-none").hidden = all.length > 0;
  if (store.view === "lines") {
    if (!store.line && all.length) look({ line: all[0].key });
    refill($("board"), table(all, true));
    setText($("board-note"), all.some((r) => r.told) ? t("board_told") : t("board_untold"));
  }
}

export function start() {
  let ticks = 0;
  on("tick", () => { ticks += 1; if (ticks % 5 === 0) show(); });
  on("loaded view line past at", show);
  $("all-lines").onclick = () => look({ view: "lines" });
}

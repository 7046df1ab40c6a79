// Today against the usual: travel time index and CO2 of the whole city.
import { Chart } from "/assets/charts.js";
import { $, make, svg } from "/assets/dom.js";
import { aheadMs, dayOnly, figure, hourMinute } from "/assets/format.js";
import { base, getJson, on, store } from "/assets/store.js";
import { decimal, t } from "/assets/text.js";

const EVERY_S = 60;
const GAP_MS = 20 * 60000;
const HOURLY_GAP_MS = 90 * 60000; // the usual is told hour by hour

function chart(d, name, { unit, format, floor }) {
  const { now, usual, days } = d[name], values = [...now.map((p) => p[1]), ...usual.flatMap((p) => p.slice(1))], top = Math.max(...values) * 1.6; // wide bounds are cut in the drawing and told in words
  const title = make("h3", t(name));
  if (!now.length) return [title, make("p", t("day_none"), { class: "nothing" })];
  const last = now.at(-1), beside = usual.findLast((p) => p[0] <= last[0]);
  const words = `${t("latest", { t: hourMinute(last[0]), v: `${format(last[1])}${unit}` })}${last.length > 2 ? ` (${t("bounds95", { lo: figure(last[2]), hi: figure(last[3]) })})` : ""}`
    + (beside ? ` · ${t("usual_is", { v: `${format(beside[1])}${unit}`, n: days })}` : ` · ${t("usual_none", { n: days })}`);
  // the whole day where it can be seen; a short memory is drawn from where it begins
  const all = [...now, ...usual], from = usual.length || last[0] - now[0][0] > 6 * 3600000 ? d.first_ms : now[0][0], to = usual.length || from === d.first_ms ? d.last_ms : Math.max(...all.map((p) => p[0])) + 60000;
  const c = new Chart({ width: 330, height: 118, first: from, last: to, low: floor ?? 0, high: Math.max(now[0].length > 2 ? top : 0, ...values, (floor ?? 0) + 0.2) * 1.05, label: `${t(name)}: ${words}` });
  c.axes(aheadMs, { count: 3, unit: unit.trim(), format });
  c.band(usual.map(([at, , lo, hi]) => [at, lo, hi]), HOURLY_GAP_MS, { class: "usual-band" });
  c.line(usual, HOURLY_GAP_MS, { class: "usual" });
  if (now[0].length > 2) c.band(now.map(([at, , lo, hi]) => [at, lo, Math.min(hi, top)]), GAP_MS, { class: "band" });
  c.line(now, GAP_MS, { class: "series" });
  c.mark(store.at ?? store.logMs);
  return [title, c.node, make("p", words, { class: "note" })];
}

let asking = 0;

async function show() {
  if (!store.logMs) return;
  const mine = asking += 1, at = new Date(store.at ?? store.logMs).toISOString();
  const d = await getJson(`${base()}/past/day?datetime=${at}`).catch(() => null);
  if (!d || mine !== asking) return;
  $("today").replaceChildren(
    make("p", [dayOnly(d.first_ms), " · ", make("span", [svg("svg", { viewBox: "0 0 34 10", class: "sample", "aria-hidden": "true" }, svg("path", { d: "M1 5H33", class: "series" })), t("this_day")]), " ",
      make("span", [svg("svg", { viewBox: "0 0 34 10", class: "sample", "aria-hidden": "true" }, svg("path", { d: "M1 5H33", class: "usual" })), t(`usual_${d.kind}`)])], { class: "key" }),
    ...chart(d, "travel_time_index", { unit: "", format: (v) => decimal(v, 2), floor: 1 }),
    ...chart(d, "co2_kg_h", { unit: " kg/h", format: figure }),
  );
}

export function start() {
  let ticks = 0;
  on("loaded at", show);
  on("tick", () => { ticks += 1; if (ticks % EVERY_S === 0 && store.at === null) show(); });
}

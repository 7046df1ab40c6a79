// Cities compared by the two indicators: how traffic flows, and what it gives off; by local hour and day, with coverage and bounds.
import { $, make, svg } from "/assets/dom.js";
import { Chart } from "/assets/charts.js";
import { aheadMs, dayOnly, figure, hourMinute, zone } from "/assets/format.js";
import { getJson, on, store } from "/assets/store.js";
import { decimal, t } from "/assets/text.js";

const EVERY_S = 60;
const MEASURES = {
  travel_time_index: { format: (v) => decimal(v, 2), low: 1 },
  co2_g_per_vehicle_km: { format: (v) => figure(v), low: 0, bounds: true },
};
let by = "hour", measure = "travel_time_index";

const titleOf = (name) => store.cities.find((c) => c.name === name)?.title ?? name;
const period = (ms) => (by === "hour" ? `${dayOnly(ms)} ${hourMinute(ms)}` : dayOnly(ms));
const dash = (v, format) => (v === undefined ? "–" : format(v));
const bounds = (r, name, format) => (r[name] === undefined ? "–" : `${format(r[name])} (${format(r[`${name}_lo95`])}–${format(r[`${name}_hi95`])})`);

function table(rows) {
  const columns = [
    ["period", (r) => period(r.ms)],
    ["travel_time_index", (r) => dash(r.travel_time_index, (v) => decimal(v, 2))],
    ["delay_veh_h", (r) => dash(r.delay_veh_h, (v) => `${figure(v)} h`)],
    ["co2_per_km", (r) => bounds(r, "co2_g_per_vehicle_km", figure)],
    ["co2_kg", (r) => bounds(r, "co2_kg", figure)],
    ["coverage", (r) => dash(r.coverage_pct, (v) => `${decimal(v, 0)} %`)],
    ["known", (r) => `${decimal(r.known_pct, 0)} %`],
  ];
  return [
    make("caption", t("compare_caption", { zone: store.city.timezone })),
    make("thead", make("tr", [make("th", t("city"), { scope: "col" }), ...columns.map(([name]) => make("th", t(name), { scope: "col" }))])),
    make("tbody", rows.map((r) => make("tr", [make("th", [titleOf(r.city), r.simulated ? make("small", ` ${t("sim_short")}`) : null], { scope: "row" }), ...columns.map(([, cell]) => make("td", cell(r)))]))),
  ];
}

function chart(rows, cities) {
  const { format, low, bounds: bounded } = MEASURES[measure], step = by === "hour" ? 3600000 : 86400000;
  const told = rows.filter((r) => r[measure] !== undefined);
  if (!told.length) return make("p", t("compare_none"), { class: "nothing" });
  const width = Math.max(340, Math.min(1200, $("compare-chart").clientWidth || 900)), last = Math.max(...told.map((r) => r.ms)) + step, first = Math.min(last - 3 * step, ...told.map((r) => r.ms));
  const high = Math.max(low + 0.1, ...told.flatMap((r) => [r[measure], bounded ? r[`${measure}_hi95`] : 0])) * 1.05;
  const c = new Chart({ width, height: 260, first, last, low, high, label: `${t(measure)}: ${cities.map((name) => `${titleOf(name)} ${dash(told.findLast((r) => r.city === name)?.[measure], format)}`).join(", ")}` });
  c.axes(aheadMs, { count: 4, format, unit: measure === "travel_time_index" ? "" : "g/km" });
  const room = (c.x(first + step) - c.x(first)) / (cities.length + 1);
  for (const r of told) { // a bar a city in each period, told apart by pattern and figure besides colour
    const k = cities.indexOf(r.city), x = c.x(r.ms) + room * (k + 0.5), y = c.y(r[measure]), wide = Math.max(1.5, Math.min(26, room * 0.86));
    c.add(svg("rect", { x, y, width: wide, height: Math.max(0, c.y(low) - y), class: `bar c${k}` }, svg("title", {}, `${titleOf(r.city)} ${period(r.ms)}: ${bounded ? bounds_(r) : format(r[measure])}`)));
    if (bounded) c.add(svg("path", { d: `M${x + wide / 2} ${c.y(r[`${measure}_lo95`])}V${c.y(r[`${measure}_hi95`])}`, class: "whisker" }));
    if (wide > 9) c.add(svg("text", { x: x + wide / 2, y: c.y(low) - 4, "text-anchor": "middle", class: "in-bar" }, String(k + 1)));
  }
  return c.node;
}

const bounds_ = (r) => bounds(r, measure, MEASURES[measure].format);

// One city in one hour or day, as city-day tells it.
function row(city, ms, part, of) {
  const f = part.fluency, e = part.environment, perKm = e?.co2_total_g_per_vehicle_km, kg = e?.co2_total_kg, hours = of * 60;
  return { city: city.city, ms, simulated: city.simulated, travel_time_index: f?.travel_time_index, delay_veh_h: f?.delay_veh_h, coverage_pct: f?.coverage_pct ?? e?.coverage_pct, known_pct: f ? Math.min(100, (100 * f.minutes) / hours) : 0,
    co2_g_per_vehicle_km: perKm?.value, co2_g_per_vehicle_km_lo95: perKm?.lo95, co2_g_per_vehicle_km_hi95: perKm?.hi95, co2_kg: kg?.value, co2_kg_lo95: kg?.lo95, co2_kg_hi95: kg?.hi95 };
}

async function show() {
  if (store.view !== "compare") return;
  const newest = await getJson("/api/v1/city-days").catch(() => null);
  if (!newest || store.view !== "compare") return;
  const older = await Promise.all((newest.days ?? []).slice(1, by === "day" ? 8 : 2).map((day) => getJson(`/api/v1/city-days?day=${day}`).catch(() => null)));
  const told = [newest, ...older].filter(Boolean).flatMap((d) => d.cities);
  const all = told.flatMap((c) => (by === "day" ? [row(c, Date.parse(c.window_start), c, 24)] : c.hours.map((h) => row(c, Date.parse(h.hour_start), h, 1))));
  const last = Math.max(0, ...all.map((r) => r.ms));
  const rows = all.filter((r) => by === "day" || r.ms > last - 86400000).sort((x, y) => y.ms - x.ms || (x.city < y.city ? -1 : 1));
  const cities = store.cities.map((c) => c.name).sort();
  $("compare-table").replaceChildren(...(rows.length ? table(rows) : []));
  $("compare-key").replaceChildren(...cities.map((name, k) => make("li", [make("span", String(k + 1), { class: `swatch c${k}`, "aria-hidden": "true" }), titleOf(name),
    rows.some((r) => r.city === name) ? null : make("small", ` ${t("compare_city_none")}`)])));
  $("compare-chart").replaceChildren(chart(rows, cities));
  $("compare-csv").href = `/api/v1/city-days.csv?by=${by}`;
  $("compare-zone").textContent = t("local_times", { zone: `${store.city.timezone}, ${zone(Date.now())}` });
}

export function start() {
  for (const [id, set] of [["compare-by", (v) => { by = v; }], ["compare-measure", (v) => { measure = v; }]]) $(id).onchange = (e) => { set(e.target.value); show(); };
  $("compare-by").append(new Option(t("by_hour"), "hour"), new Option(t("by_day"), "day"));
  $("compare-measure").append(...Object.keys(MEASURES).map((name) => new Option(t(name), name)));
  let ticks = 0;
  on("view loaded", show);
  on("tick", () => { ticks += 1; if (ticks % EVERY_S === 0) show(); });
  addEventListener("resize", show);
}

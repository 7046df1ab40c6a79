// The page: puts the parts together. Each part listens to the store and looks after its own elements.
import { $, make, setText } from "/assets/dom.js";
import { figure, percent } from "/assets/format.js";
import * as compare from "/assets/compare.js";
import * as legend from "/assets/legend.js";
import * as lines from "/assets/lines.js";
import { CityMap } from "/assets/map.js";
import * as panel from "/assets/panel.js";
import * as search from "/assets/search.js";
import * as situations from "/assets/situations.js";
import * as status from "/assets/status.js";
import { VEHICLE_MEMORY_MS, age, base, forget, getJson, isDead, look, on, store, tell } from "/assets/store.js";
import { load, tiles } from "/assets/stream.js";
import * as stringline from "/assets/stringline.js";
import { language, names, t } from "/assets/text.js";
import * as time from "/assets/time.js";
import * as today from "/assets/today.js";
import { asked, goTo, write } from "/assets/url.js";
import * as wrong from "/assets/wrong.js";

const CO2_EVERY_S = 60;
const AGE_EVERY_S = 30;
const THEMES = ["auto", "light", "dark"];
const darkness = matchMedia("(prefers-color-scheme: dark)");

// ---- words, theme, views

function words() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
}

function theme() {
  const kept = () => localStorage.getItem("theme") ?? "auto";
  const apply = () => {
    const asked = kept(), next = asked === "auto" ? (darkness.matches ? "dark" : "light") : asked;
    if (document.documentElement.dataset.theme === next) return;
    document.documentElement.dataset.theme = next;
    store.map?.recolour();
    tell("theme");
  };
  $("theme").append(...THEMES.map((name) => new Option(t(`theme_${name}`), name, false, name === kept())));
  $("theme").onchange = (e) => { localStorage.setItem("theme", e.target.value); apply(); };
  darkness.addEventListener("change", apply);
  apply();
}

function views() {
  const buttons = [...document.querySelectorAll("#views button")];
  for (const b of buttons) b.onclick = () => look({ view: b.value });
  on("view", () => {
    document.body.dataset.view = store.view;
    for (const b of buttons) b.setAttribute("aria-pressed", String(b.value === store.view));
    for (const name of ["lines", "compare"]) $(`${name}-view`).hidden = store.view !== name;
    $("map-view").hidden = store.view !== "map";
    if (store.view === "map") store.map?.map.resize();
  });
}

// ---- the map

function hover(p, point) {
  const tip = $("tip");
  tip.hidden = !p;
  if (!p) return;
  const s = p.state, los = s && s.los !== "unknown" ? `${t("level")} ${s.los}` : t("no_origin");
  const value = store.layer === "co2"
    ? p.co2 ? `CO₂ ${figure(p.co2[0])} kg/h per km (${t("bounds95", { lo: figure(p.co2[1]), hi: figure(p.co2[2]) })})` : t("no_origin")
    : s && s.origin !== "none" ? `${los} · ${t(s.origin)} · ${t("confidence")} ${percent(s.confidence)}` : t("no_origin");
  tip.replaceChildren(make("strong", p.name ?? ""), make("span", value));
  const { clientWidth } = $("map");
  tip.style.setProperty("left", `${Math.max(4, Math.min(point.x + 14, clientWidth - 300))}px`);
  tip.style.setProperty("top", `${point.y + 16}px`);
}

let askingCo2 = 0;

// Of now, or of the time that is looked at.
async function loadCo2() {
  if (store.layer !== "co2" || !store.map) return;
  const mine = askingCo2 += 1, at = store.at;
  const e = await getJson(`${base()}/emissions${at === null ? "" : `?datetime=${new Date(at).toISOString()}`}`).catch(() => null);
  if (mine !== askingCo2) return;
  setText($("co2-past"), at !== null && !e?.segment_id.length ? t("co2_past_none") : "");
  if (!e) return;
  store.map.setCo2(new Map(e.segment_id.map((id, n) => [id, [e.co2_kg_h_km[n], e.co2_kg_h_km_lo95[n], e.co2_kg_h_km_hi95[n]]])));
  tell("co2");
}

function drawMap() {
  const box = store.city.bbox;
  store.map = new CityMap($("map"), {
    background: store.background, label: t("map"), tiles: tiles(store.city.network), bounds: box && [[box[0], box[1]], [box[2], box[3]]], at: asked.place, layer: store.layer,
    segments: store.segments, isDead, onSelect: (kind, id) => look({ selected: kind ? { kind, id } : null }), onHover: hover, onMove: write,
  });
  let drawn = store.city.network;
  store.map.map.once("load", () => tell("mapready"));
  on("network", (first) => {
    if (drawn !== store.network && store.network !== null) store.map.setNetwork(tiles(store.network));
    drawn = store.network ?? drawn;
    if (first && !box && store.city.bbox) store.map.fit([store.city.bbox.slice(0, 2), store.city.bbox.slice(2)]);
  });
  const live = () => store.at === null;
  on("segments", () => { if (live()) store.map.changed(); });
  on("segment", (s) => { if (live()) store.map.changed(s.segment_id); });
  on("vehicle", ({ ms, record }) => { if (live()) store.map.fleet.move(record, ms); });
  on("feed", () => { if (live()) store.map.fleet.forget(store.logMs, VEHICLE_MEMORY_MS); });
  on("layer", () => { store.map.setLayer(store.layer); setText($("co2-past"), ""); loadCo2(); });
  on("at", () => { setText($("co2-past"), ""); loadCo2(); });
}

// ---- start

function tick(seconds) {
  forget();
  if (store.at === null) store.map.fleet.forget(store.logMs, VEHICLE_MEMORY_MS);
  if (seconds % AGE_EVERY_S === 0) {
    age();
    tell("segments");
  }
  if (seconds % CO2_EVERY_S === 0 && store.at === null) loadCo2();
  tell("tick");
}

function escape(e) {
  if (e.key !== "Escape") return;
  if ($("found").childElementCount) $("found").replaceChildren();
  else if (store.selected) {
    look({ selected: null });
    store.map.map.getCanvas().focus();
  } else if (store.view !== "map") look({ view: "map" });
}

async function start() {
  words();
  theme();
  $("language").append(...Object.entries(names).map(([code, name]) => new Option(name, code, false, code === language)));
  $("language").onchange = (e) => goTo({ lang: e.target.value });
  addEventListener("keydown", escape);
  const { cities, background } = await getJson("/api/v1/cities");
  store.city = cities.find((c) => c.name === asked.city) ?? cities[0];
  Object.assign(store, { cities, background, layer: asked.layer, line: asked.line });
  document.title = `${store.city.title} – tilannekuva`;
  $("city").hidden = cities.length < 2;
  $("place").hidden = cities.length > 1;
  $("place").textContent = store.city.title;
  $("city").append(...cities.map((c) => new Option(c.title, c.name, false, c === store.city)));
  $("city").onchange = (e) => goTo({ city: e.target.value, at: null, segment: null, line: null });
  $("attribution").textContent = [...store.city.attribution, "MapLibre GL JS"].join(" · ");
  $("share").onclick = async () => { write(); await navigator.clipboard?.writeText(location.href).catch(() => {}); setText($("shared"), t("shared")); };
  for (const part of [status, legend, search, wrong, lines, stringline, today, panel, compare, situations]) part.start();
  views();
  try {
    drawMap();
  } catch (error) {
    $("map").textContent = t("no_map");
    throw error;
  }
  time.start(asked.time);
  on("look", write);
  if (asked.segment) on("mapready", () => { if (!store.selected) look({ selected: { kind: "segment", id: asked.segment } }); asked.segment = null; });
  window.tilannekuva = store; // for the console, and for tests
  look({ view: asked.view });
  if (store.layer === "co2") loadCo2();
  load();
  let seconds = 0;
  setInterval(() => tick(seconds += 1), 1000);
}

start().catch((error) => {
  console.warn(error);
  if (!store.map) setTimeout(() => location.reload(), 5000);
});

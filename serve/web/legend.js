// What the lines and signs of the map mean, for the layer that is shown.
import { $, make } from "/assets/dom.js";
import { delayClass } from "/assets/fleet.js";
import { picture, situation, vehicle } from "/assets/icons.js";
import { CO2_STEPS, UNSURE_BELOW } from "/assets/layers.js";
import { look, on, store } from "/assets/store.js";
import { t } from "/assets/text.js";

const row = (mark, words) => [make("dt", mark), make("dd", words)];
const line = (kind, words) => row(make("span", "", { class: `line ${kind}` }), words);
const DELAYS = [0, 300, 900, -120, undefined];

function fluency() {
  return [make("h3", t("los")), make("dl", [
    ...["A", "B", "C", "D", "E", "F"].flatMap((g) => line(g, t(`L${g}`))), ...line("unsure", t("unsure", { p: UNSURE_BELOW * 100 })), ...line("dashed", t("inferred")), ...line("thin none", t("no_origin")), ...line("closed", t("closed")),
  ]), make("p", [make("span", "", { class: "fade", "aria-hidden": "true" }), t("paler")])];
}

function co2() {
  const steps = CO2_STEPS.map(String), words = steps.map((s, n) => (n === 0 ? `< ${s}` : `${steps[n - 1]}–${s}`)).concat(`> ${steps.at(-1)}`);
  return [make("h3", t("co2_legend")), make("dl", [...words.flatMap((w, n) => line(`co2-${n}`, w)), ...line("thin none", t("no_origin"))]), make("p", t("co2_bounds"))];
}

export function show() {
  $("legend-body").replaceChildren(...(store.layer === "co2" ? co2() : fluency()),
    make("h3", t("vehicles")), make("dl", DELAYS.flatMap((d) => row(picture(vehicle("bus", delayClass(d))), t(d === undefined ? "delay_unknown" : delayClass(d))))),
    make("dl", [["bus", "m_bus"], ["tram", "m_tram"], ["train", "m_rail"], ["ferry", "m_ferry"]].flatMap(([m, word]) => row(picture(vehicle(m, "on_time")), t(word))), { class: "two" }),
    make("h3", t("situations")), make("dl", [["incident", 2], ["roadwork", 1], ["closure", 1], ["weather", 1], ["information", 0]].flatMap(([k, rank]) => row(picture(situation(k, rank)), t(`k_${k}`))), { class: "two" }));
}

export function start() {
  $("legend").querySelector("summary").textContent = t("legend");
  if (innerWidth < 900) $("legend").open = false;
  for (const input of document.querySelectorAll("[name=layer]")) {
    input.checked = input.value === store.layer;
    input.onchange = () => look({ layer: input.value });
  }
  on("layer theme", show);
  show();
}

// Every word of the page, a column a language. A word that a language lacks is shown in English.
const en = {
  loading: "loading the network…", live: "live", stale: "stale – no data since {t}", never: "no data yet", quiet: "no new records since {t}", old: "not live – the data is {s} old",
  waiting: "not ready: {why}", data: "data {t}", age: "{s} old", simulated: "SIMULATED DATA – not what is happening in the streets", generated: "SIMULATED DATA on INVENTED STREETS – neither exists",
  city: "City", language: "Language", search: "Find a street, route or vehicle", close: "Close", legend: "Legend", nothing: "nothing found",
  los: "Level of service (speed / free flow)", LA: "A  above 85 %", LB: "B  67–85 %", LC: "C  50–67 %", LD: "D  40–50 %", LE: "E  30–40 %", LF: "F  30 % or less",
  paler: "Paler lines are less certain.", unsure: "low confidence (below {p} %)", inferred: "inferred, not measured", no_origin: "no data", closed: "closed",
  vehicles: "Vehicles, by delay", early: "early by over 1 min", on_time: "on time", late: "late 3–10 min", very_late: "late 10 min or more", delay_unknown: "delay not known",
  segment: "street segment", level: "Level of service", speed: "Speed", free_flow: "Free flow", ratio: "of free flow", confidence: "Confidence", origin: "Origin",
  window: "Window", status: "Status", count: "Vehicles seen", data_age: "Data age", flow: "Flow", delay: "Delay", sources: "Sources", represents: "Speaks for",
  topic: "Topic", record: "Record as published", caution_low: "Low confidence: treat as a hint.", caution_inferred: "Not measured here: inferred from neighbours or history.",
  caution_none: "Nothing informs this segment now. That is not free flow.", vehicle: "vehicle", route: "Route", headsign: "To", mode: "Mode", position: "Position by", fix: "Last fix",
  stop: "Stop", at_stop: "standing at a stop", off_route: "off its route", occupancy: "Occupancy", from_feed: "Feed", gone: "no longer heard", limit: "Speed limit", length: "Length",
  lag: "lag", gap: "gap", since: "since", ok: "ok", degraded: "degraded", f_stale: "stale", empty: "empty", dead: "dead",
  measured: "measured", blended: "measured and blended", historical: "from history", none: "none", unknown: "unknown", provisional: "provisional", final: "final", revision: "revision {n}",
  general_traffic: "general traffic", bus_lane: "bus lane", rail: "rail", map: "Map of street segments and vehicles", feeds: "Source feeds", no_map: "This browser cannot draw the map (WebGL is missing).",
};
const fi = {
  loading: "ladataan katuverkkoa…", live: "live", stale: "vanhentunut – ei tietoja {t} jälkeen", never: "ei vielä tietoja", quiet: "ei uusia tietueita {t} jälkeen", old: "ei live – tiedot {s} vanhoja",
  waiting: "ei valmis: {why}", data: "tiedot {t}", age: "{s} vanhaa", simulated: "SIMULOITUA TIETOA – ei kaduilla tapahtuvaa liikennettä", generated: "SIMULOITUA TIETOA KEKSITYILLÄ KADUILLA – kumpaakaan ei ole",
  city: "Kaupunki", language: "Kieli", search: "Etsi katu, linja tai ajoneuvo", close: "Sulje", legend: "Selite", nothing: "ei löytynyt",
  los: "Palvelutaso (nopeus / vapaa nopeus)", LA: "A  yli 85 %", LF: "F  enintään 30 %",
  paler: "Vaaleampi viiva on epävarmempi.", unsure: "heikko luotettavuus (alle {p} %)", inferred: "päätelty, ei mitattu", no_origin: "ei tietoa", closed: "suljettu",
  vehicles: "Ajoneuvot, myöhästyminen", early: "etuajassa yli 1 min", on_time: "aikataulussa", late: "myöhässä 3–10 min", very_late: "myöhässä vähintään 10 min", delay_unknown: "myöhästyminen ei tiedossa",
  segment: "katuosuus", level: "Palvelutaso", speed: "Nopeus", free_flow: "Vapaa nopeus", ratio: "vapaasta nopeudesta", confidence: "Luotettavuus", origin: "Alkuperä",
  window: "Aikaikkuna", status: "Tila", count: "Havaittuja ajoneuvoja", data_age: "Tiedon ikä", flow: "Liikennemäärä", delay: "Viive", sources: "Lähteet", represents: "Koskee",
  topic: "Aihe", record: "Tietue julkaistuna", caution_low: "Heikko luotettavuus: vain suuntaa antava.", caution_inferred: "Ei mitattu tässä: päätelty naapureista tai historiasta.",
  caution_none: "Tästä osuudesta ei ole nyt tietoa. Se ei tarkoita sujuvaa liikennettä.", vehicle: "ajoneuvo", route: "Linja", headsign: "Määränpää", mode: "Kulkumuoto", position: "Paikannus", fix: "Viimeisin sijainti",
  stop: "Pysäkki", at_stop: "pysäkillä", off_route: "poissa reitiltään", occupancy: "Täyttöaste", from_feed: "Syöte", gone: "ei enää kuulu", limit: "Nopeusrajoitus", length: "Pituus",
  lag: "viive", gap: "tauko", since: "alkaen", ok: "kunnossa", degraded: "heikentynyt", f_stale: "vanhentunut", empty: "tyhjä", dead: "poissa",
  measured: "mitattu", blended: "mitattu ja yhdistetty", historical: "historiasta", none: "ei mitään", unknown: "tuntematon", provisional: "alustava", final: "lopullinen", revision: "versio {n}",
  general_traffic: "yleinen liikenne", bus_lane: "bussikaista", rail: "raide", map: "Katuosuuksien ja ajoneuvojen kartta", feeds: "Tietolähteet", no_map: "Selain ei pysty piirtämään karttaa (WebGL puuttuu).",
};
const sv = {
  loading: "laddar gatunätet…", live: "live", stale: "inaktuellt – inga data sedan {t}", never: "inga data ännu", quiet: "inga nya poster sedan {t}", old: "inte live – data är {s} gamla",
  waiting: "inte redo: {why}", data: "data {t}", age: "{s} gamla", simulated: "SIMULERADE DATA – inte det som händer på gatorna", generated: "SIMULERADE DATA på PÅHITTADE GATOR – ingetdera finns",
  city: "Stad", language: "Språk", search: "Sök gata, linje eller fordon", close: "Stäng", legend: "Teckenförklaring", nothing: "inget hittades",
  los: "Servicenivå (hastighet / fritt flöde)", LA: "A  över 85 %", LF: "F  högst 30 %",
  paler: "Blekare linjer är osäkrare.", unsure: "låg tillförlitlighet (under {p} %)", inferred: "härledd, inte mätt", no_origin: "inga data", closed: "avstängd",
  vehicles: "Fordon, försening", early: "mer än 1 min för tidigt", on_time: "i tid", late: "3–10 min sent", very_late: "minst 10 min sent", delay_unknown: "försening okänd",
  segment: "gatuavsnitt", level: "Servicenivå", speed: "Hastighet", free_flow: "Fritt flöde", ratio: "av fritt flöde", confidence: "Tillförlitlighet", origin: "Ursprung",
  window: "Tidsfönster", status: "Status", count: "Fordon sedda", data_age: "Dataålder", flow: "Flöde", delay: "Fördröjning", sources: "Källor", represents: "Gäller",
  topic: "Ämne", record: "Posten som publicerad", caution_low: "Låg tillförlitlighet: endast en antydan.", caution_inferred: "Inte mätt här: härledd från grannar eller historik.",
  caution_none: "Inget informerar om avsnittet nu. Det betyder inte fritt flöde.", vehicle: "fordon", route: "Linje", headsign: "Till", mode: "Färdmedel", position: "Position från", fix: "Senaste position",
  stop: "Hållplats", at_stop: "vid hållplats", off_route: "utanför sin rutt", occupancy: "Beläggning", from_feed: "Flöde", gone: "hörs inte längre", limit: "Hastighetsgräns", length: "Längd",
  lag: "fördröjning", gap: "paus", since: "sedan", ok: "ok", degraded: "nedsatt", f_stale: "inaktuellt", empty: "tomt", dead: "borta",
  measured: "mätt", blended: "mätt och sammanvägt", historical: "från historik", none: "inget", unknown: "okänt", provisional: "preliminär", final: "slutlig", revision: "version {n}",
  general_traffic: "allmän trafik", bus_lane: "bussfil", rail: "spår", map: "Karta över gatuavsnitt och fordon", feeds: "Datakällor", no_map: "Webbläsaren kan inte rita kartan (WebGL saknas).",
};

const languages = { en, fi, sv };
const asked = new URLSearchParams(location.search).get("lang") || (navigator.language || "en").slice(0, 2);

export const names = { en: "English", fi: "Suomi", sv: "Svenska" };
export const language = Object.hasOwn(languages, asked) ? asked : "en";

export function decimal(value, digits = 1) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function t(key, values = {}) {
  const text = languages[language][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

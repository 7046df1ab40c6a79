// Words in the language of the page. A word that a language lacks is shown in English; a test sees to it that none does.
import { en } from "/assets/text-en.js";
import { fi } from "/assets/text-fi.js";
import { sv } from "/assets/text-sv.js";

const languages = { en, fi, sv };
const asked = new URLSearchParams(location.search).get("lang") || (navigator.language || "en").slice(0, 2);

export const names = { en: "English", fi: "Suomi", sv: "Svenska" };
export const language = Object.hasOwn(languages, asked) ? asked : "en";

export function decimal(value, digits = 1) {
  return value.toLocaleString(language === "en" ? "en-GB" : language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function t(key, values = {}) {
  const text = languages[language][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// The filter by length and label, as the SQL condition that the service takes.

import { $, OWN, Problem, element, labelOrder } from "./common.js";

const LISTED = 200;
let types = {};

/** Offer the labels of a collection. */
export function offerLabels(columns) {
  types = columns;
  const names = labelOrder(Object.keys(columns).filter((name) => !OWN.includes(name) && kind(columns[name])));
  $("label").replaceChildren(new Option("any", ""), ...names.map((name) => new Option(name.replaceAll("_", " "), name)));
  $("label").disabled = !names.length;
  $("label-values").replaceChildren();
  seen.clear();
  offerValues();
}

const seen = new Map();

/** Offer the values of labels that were met in records. */
export function meetLabels(records) {
  for (const { labels } of records) {
    for (const [name, value] of Object.entries(labels)) {
      if (value === null || typeof value === "object") continue;
      if (!seen.has(name)) seen.set(name, new Set());
      if (seen.get(name).size < LISTED) seen.get(name).add(String(value));
    }
  }
  offerValues();
}

export function offerValues() {
  const name = $("label").value;
  $("label-value").disabled = !name;
  if (!name) $("label-value").value = "";
  $("label-values").replaceChildren(...[...(seen.get(name) ?? [])].sort().map((value) => element("option", { attributes: { value } })));
}

/** The condition, or "" where nothing is asked for. */
export function filterOf() {
  const parts = [];
  for (const [id, sign] of [["shortest", ">="], ["longest", "<="]]) {
    const text = $(id).value.trim();
    if (!text) continue;
    if (!/^\d+$/.test(text)) throw new Problem(422, "", [{ field: id, message: "Length: a whole number is wanted." }]);
    parts.push(`length ${sign} ${text}`);
  }
  const name = $("label").value;
  const value = $("label-value").value.trim();
  if (name && value) parts.push(`\`${name}\` = ${literal(value, kind(types[name]))}`);
  const own = $("where").value.trim();
  if (own) parts.push(parts.length ? `(${own})` : own);
  return parts.join(" AND ");
}

function literal(value, type) {
  if (type === "text") return `'${value.replaceAll("'", "''")}'`;
  const good = type === "truth" ? /^(true|false)$/i : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  if (good.test(value)) return value;
  throw new Problem(422, "", [{ field: "label-value", message: type === "truth" ? "The label is true or false." : "The label is a number." }]);
}

function kind(type) {
  if (/^(large_)?string/.test(type)) return "text";
  if (/^(u?int|float|double|half)/.test(type)) return "number";
  return /^bool/.test(type) ? "truth" : "";
}

/** The fields of an address that say the filter by length and label. */
export function filterFields() {
  const [name, value] = [$("label").value, $("label-value").value.trim()];
  return { from: $("shortest").value.trim(), to: $("longest").value.trim(), label: value && name, value: name && value };
}

/** Set the filter by length and label as an address says it. */
export function setFilterFields({ from = "", to = "", label = "", value = "" }) {
  [$("shortest").value, $("longest").value, $("label").value] = [from, to, label];
  if ($("label").selectedIndex < 0) $("label").value = "";
  offerValues();
  $("label-value").value = $("label").value ? value : "";
}

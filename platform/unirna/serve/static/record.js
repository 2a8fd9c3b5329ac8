// The view of one record.

import { pathOf } from "./address.js";
import { $, SIGNIFICANT, breakable, call, chanceText, counted, element, labelOrder, labelValue, show, showProblem } from "./common.js";
import { foldInto } from "./fold.js";
import { predictAll } from "./predict.js";

const FOLDED_AT_ONCE = 400;
const PREDICTED_AT_ONCE = 2000;
const NEIGHBOURS = 8;
let visits = 0;

function recordPath(collection, id) {
  return `${pathOf("/record")}?${new URLSearchParams({ collection, id })}`;
}

export function recordLink(collection, id, text) {
  const link = element("a", { attributes: { href: recordPath(collection, id) } }, ...(text ? [text] : breakable(id)));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.pushState({ inside: true }, "", link.href);
    dispatchEvent(new PopStateEvent("popstate"));
    scrollTo(0, 0);
  });
  return link;
}

/** Show a record: its labels and letters, then its neighbours, structure and predictions as they come. */
export async function showRecord(collection, id, findSimilar, predictorsOf) {
  const visit = ++visits;
  const current = () => visit === visits;
  $("record-id").textContent = id;
  for (const part of ["record", "record-structure", "record-neighbours", "record-predictions"]) $(part).hidden = true;
  show($("record-message"), "Loading …");
  let record;
  try {
    record = await call(`/v1/collections/${encodeURIComponent(collection)}/record?${new URLSearchParams({ id })}`);
  } catch (problem) {
    if (current()) showProblem($("record-message"), problem);
    return;
  }
  if (!current()) return;
  show($("record-message"), "");
  const rows = [["collection", collection], ["length", counted(record.length, "nucleotide")]];
  for (const name of labelOrder(Object.keys(record.labels))) rows.push([name.replaceAll("_", " "), labelValue(record.labels[name])]);
  $("labels").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", {}, value)]));
  $("letters").textContent = inTens(record.sequence);
  $("copied").textContent = "";
  $("record").hidden = false;
  $("similar").onclick = () => findSimilar(record, collection);
  $("copy").onclick = () => copy(record);
  const fold = () => foldRecord(record, current);
  $("record-fold").onclick = fold;
  $("record-fold").hidden = record.length <= FOLDED_AT_ONCE;
  const neighbours = await showNeighbours(collection, record, current);
  if (!current()) return;
  if (record.length <= FOLDED_AT_ONCE) await fold();
  const predictors = await predictorsOf();
  if (!current() || !predictors.length || record.length > PREDICTED_AT_ONCE) return;
  $("record-predictions").hidden = false;
  await predictAll($("predictions"), $("predictions-note"), $("refusals"), record.sequence, predictors, [record, ...neighbours].map(({ labels }) => labels), current);
}

/** What still comes for the record shown last is not wanted any more. */
export function leaveRecord() {
  visits += 1;
}

async function copy(record) {
  try {
    await navigator.clipboard.writeText(`>${record.id}\n${record.sequence}\n`);
    $("copied").textContent = "Copied";
  } catch {
    $("copied").textContent = "The browser does not allow it here; select the sequence below";
  }
}

async function foldRecord(record, current) {
  $("record-fold").disabled = true;
  show($("record-message"), "Folding …");
  try {
    const place = element("div");
    await foldInto(place, record.sequence, record.id);
    if (!current()) return;
    $("record-fold-here").replaceChildren(place);
    $("record-structure").hidden = false;
    show($("record-message"), "");
  } catch (problem) {
    if (current()) showProblem($("record-message"), problem);
  } finally {
    $("record-fold").disabled = false;
  }
}

/** Show what lies next to a record, and return it. */
async function showNeighbours(collection, record, current) {
  let hits;
  try {
    ({ hits } = await call("/v1/search", { id: record.id, collection, k: NEIGHBOURS + 1 }));
  } catch {
    return []; // a collection of another model has none to show here
  }
  hits = hits.filter((hit) => hit.id !== record.id).slice(0, NEIGHBOURS);
  if (!current() || !hits.length) return hits;
  const known = hits.every(({ p }) => typeof p === "number");
  const better = hits.filter(({ p }) => p <= SIGNIFICANT).length;
  const chance = better ? `${better} of ${hits.length} better than chance` : "No neighbour better than chance";
  $("neighbours-note").textContent = [
    known && `${chance}: p is how often the best hit of a random sequence of this length is as good.`,
    hits.some(({ alignment }) => alignment) && "In the order of their alignments; similarity is the cosine of the two vectors.",
  ].filter(Boolean).join(" ");
  const labels = labelOrder(Object.keys(hits[0].labels)).slice(0, 2);
  const heading = (text, className = "") => element("th", { text, className, attributes: { scope: "col" } });
  $("neighbour-headings").replaceChildren(
    heading("id"), ...labels.map((name) => heading(name.replaceAll("_", " "))), heading("length", "number"), heading("similarity", "number"), ...(known ? [heading("p", "number")] : []));
  const cell = (label, className, content) => element("td", { className, attributes: { "data-label": label } }, content);
  $("neighbours").replaceChildren(...hits.map((hit) => element(
    "tr", { className: known && hit.p > SIGNIFICANT ? "chance" : "" },
    cell("id", "id", element("span", {}, recordLink(collection, hit.id))),
    ...labels.map((name) => cell(name.replaceAll("_", " "), "", labelValue(hit.labels[name]))),
    cell("length", "number", `${hit.length} nt`),
    cell("similarity", "number", hit.similarity.toFixed(4)),
    ...(known ? [cell("p", "number", chanceText(hit.p))] : []),
  )));
  $("record-neighbours").hidden = false;
  return hits;
}

function inTens(sequence) {
  const width = innerWidth < 700 ? 20 : 60;
  const digits = String(sequence.length).length;
  const lines = [];
  for (let at = 0; at < sequence.length; at += width) {
    const tens = sequence.slice(at, at + width).match(/.{1,10}/g).join(" ");
    lines.push(`${String(at + 1).padStart(digits)}  ${tens}`);
  }
  return lines.join("\n");
}

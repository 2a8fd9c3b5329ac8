// The search page: its form, and which view is shown. Plain modules, no build step.

import { $, OWN, Problem, call, labelOrder, recordsOf, reveal, show, showProblem, unlock } from "./common.js";
import { filterOf, meetLabels, offerLabels, offerValues } from "./filter.js";
import { foldInto } from "./fold.js";
import { showHits } from "./hits.js";
import { prepareMap, showMap } from "./map.js";
import { predict } from "./predict.js";
import { leaveRecord, showRecord } from "./record.js";

const MOST_BYTES = 8 << 20;
let mostHits = 1000; // the service says
let collections = new Map();
let predictors = new Map();
let carried = ""; // what was pasted, on the way to the map

// ---- the form

async function readFile(file) {
  if (file.size > MOST_BYTES) throw new Problem(413, "", [{ field: "similar_to", message: `${file.name} is larger than 8 MB: use the command line, unirna search.` }]);
  $("sequence").value = await file.text();
  describeSequence();
}

/** The record of the pasted text that is asked about, and how many there are. */
function chosen(text) {
  const all = recordsOf(text);
  const at = Math.min(Number($("record-at").value || 0), all.length - 1);
  return { ...(all[at] ?? { name: "", letters: "" }), names: all.map((record, i) => record.name || `sequence ${i + 1}`) };
}

function describeSequence() {
  const { letters, names, name } = chosen($("sequence").value);
  const at = Math.max(0, Math.min($("record-at").selectedIndex, names.length - 1));
  $("record-at").replaceChildren(...names.slice(0, 500).map((text, i) => new Option(`${text} (${i + 1} of ${names.length})`, i, false, i === at)));
  $("which").hidden = names.length < 2;
  const parts = [];
  if (letters) parts.push(`${letters.length.toLocaleString("en")} nucleotides${name ? ` of ${name}` : ""}`);
  $("prediction").hidden = $("structure").hidden = true; // they were made for another sequence
  $("sequence-note").textContent = parts.join("; ") || "Either case; T is read as U. A file can be dropped here.";
}

function describeCollection() {
  const picked = collections.get($("collection").value);
  if (!picked) return;
  const columns = ["id", "length", ...labelOrder(Object.keys(picked.columns).filter((name) => !OWN.includes(name)))];
  $("where-note").textContent = `A filter is an SQL condition on ${columns.join(", ")}. Text stands in single quotes, a column's name in double quotes or none.`;
  offerLabels(picked.columns);
  $("map-link").href = `/map?${new URLSearchParams({ collection: picked.name })}`;
  $("about").textContent = `${picked.num_rows.toLocaleString("en")} sequences in ${picked.name}.`;
  if (!picked.searchable) show($("message"), `${picked.name} was made with another model (${picked.model}) and cannot be searched here.`, true);
}

/** What the chosen predictor takes. */
function describeTask() {
  const { name, requirements } = predictors.get($("task").value) ?? {};
  $("task-note").textContent = requirements?.text ? `${name.replaceAll("_", " ")} takes ${requirements.text}.` : "";
}

async function start() {
  try {
    const [listed, models, service] = await Promise.all([call("/v1/collections"), call("/v1/models"), call("/v1/service")]);
    $("to-jobs").hidden = !service.jobs;
    $("k").max = mostHits = service.limits.max_k;
    collections = new Map(listed.collections.map((entry) => [entry.name, entry]));
    $("collection").replaceChildren(
      ...listed.collections.map((entry) => new Option(`${entry.name} (${entry.num_rows.toLocaleString("en")})`, entry.name)),
    );
    prepareMap([...collections.keys()], listed.default);
    const wanted = new URLSearchParams(location.search).get("collection"); // as a job's card links to it
    if (listed.default) $("collection").value = listed.default;
    if (collections.has(wanted)) $("collection").value = wanted;
    const ofOne = models.predictors.filter((p) => p.task !== "pair-regression"); // the others compare two sequences
    predictors = new Map(ofOne.map((p) => [p.name, p]));
    $("task").replaceChildren(...ofOne.map((p) => new Option(p.name, p.name)));
    $("predict-box").hidden = ofOne.length === 0;
    describeTask();
    unlock();
    show($("message"), "");
    describeCollection();
    if (!listed.collections.length) show(messages(), "The store holds no collection yet.", true);
  } catch (problem) {
    if (problem.status !== 401) unlock(); // the key is not what is wrong
    showProblem(messages(), problem);
  }
}

function messages() {
  return $(location.pathname === "/map" ? "map-message" : "message");
}

function busy(on) {
  for (const button of document.querySelectorAll("#search-form button")) button.disabled = on;
  for (const input of document.querySelectorAll("#search-form [aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Do something that takes a while; what it returns, if anything, is brought into sight. */
async function work(what, task) {
  busy(true);
  show($("message"), what);
  try {
    const made = await task();
    show($("message"), "");
    busy(false);
    if (made) reveal(made);
  } catch (problem) {
    busy(false);
    showProblem($("message"), problem);
  }
}

function pasted() {
  const { letters } = chosen($("sequence").value);
  if (!letters) throw new Problem(422, "", [{ field: "similar_to", message: "Paste a sequence first, or load the example." }]);
  return letters;
}

async function loadExample() {
  const { examples } = await call(`/v1/collections/${encodeURIComponent($("collection").value)}`);
  meetLabels(examples);
  if (!examples.length) throw new Problem(404, "The collection is empty.", []);
  const now = chosen($("sequence").value).name;
  const next = examples[(examples.findIndex((e) => e.id === now) + 1) % examples.length];
  $("sequence").value = `>${next.id}\n${next.sequence}`;
  describeSequence();
}

// ---- hits

async function search() {
  $("results").hidden = true;
  const letters = pasted();
  const k = $("k").value.trim();
  const body = { similar_to: letters, k: /^-?\d+$/.test(k) ? Number(k) : k, collection: $("collection").value };
  const where = filterOf();
  if (where) body.where = where;
  if (!$("verify").checked) body.verify = false; // else the service decides by the length
  if (typeof body.k === "string") throw new Problem(422, "", [{ field: "k", message: "Hits: a whole number is wanted." }]);
  await showPage(body, letters, []);
  return $("results");
}

/** Ask for the hits that follow those that are there, and show all. */
async function showPage(body, letters, before) {
  const answer = await call("/v1/search", { ...body, offset: before.length });
  const hits = [...before, ...answer.hits];
  const step = Math.min(body.k, mostHits - hits.length);
  const more = answer.hits.length === body.k && step > 0 ? () => work("Searching …", () => showPage({ ...body, k: step }, letters, hits)) : null;
  showHits({ ...answer, hits }, letters, more);
  meetLabels(answer.hits);
}

async function predictorsOf() {
  await ready;
  return [...predictors.values()];
}

function findSimilar(record, collection) {
  $("sequence").value = `>${record.id}\n${record.sequence}`;
  if (collections.has(collection)) $("collection").value = collection;
  describeSequence();
  history.pushState({}, "", "/");
  route();
  work("Searching …", search);
}

async function fold() {
  $("structure").hidden = true;
  const letters = pasted();
  await foldInto($("fold-here"), letters, chosen($("sequence").value).name || "sequence");
  $("structure").hidden = letters !== chosen($("sequence").value).letters; // another one stands there by now
  return $("structure");
}

// ---- which view

function route() {
  const query = new URLSearchParams(location.search);
  const record = location.pathname === "/record";
  const map = location.pathname === "/map";
  $("record-view").hidden = !record;
  $("map-view").hidden = !map;
  $("search-view").hidden = record || map;
  document.body.classList.toggle("wide", map);
  document.title = record ? `${query.get("id")} · UniRNA` : map ? `Map of ${query.get("collection")} · UniRNA` : "UniRNA";
  if (!record) leaveRecord();
  if (map) showMap(query.get("collection") ?? "", carried);
  carried = "";
  if (record) showRecord(query.get("collection") ?? "", query.get("id") ?? "", findSimilar, predictorsOf);
}

$("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  work("Searching …", search);
});
$("example").addEventListener("click", () => work("Loading an example …", loadExample));
$("fold").addEventListener("click", () => work("Folding …", fold));
$("predict").addEventListener("click", () => work("Predicting …", async () => {
  const letters = pasted();
  await predict(letters, $("task").value, predictors.get($("task").value).lengths);
  if (letters !== chosen($("sequence").value).letters) $("prediction").hidden = true;
  return $("prediction");
}));
$("task").addEventListener("change", describeTask);
$("sequence").addEventListener("input", describeSequence);
$("collection").addEventListener("change", () => {
  show($("message"), "");
  describeCollection();
});
$("map-link").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const { name, letters } = chosen($("sequence").value);
  carried = letters && (name ? `>${name}\n${letters}` : letters);
  history.pushState({ inside: true }, "", $("map-link").href);
  route();
  scrollTo(0, 0);
});
for (const link of [$("home"), $("back"), $("map-back")]) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (link !== $("home") && history.state?.inside) return history.back();
    history.pushState({}, "", "/");
    route();
  });
}
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("unirna-key", $("key").value);
  await start();
  route();
});
$("label").addEventListener("change", offerValues);
$("record-at").addEventListener("change", describeSequence);
for (const name of ["dragover", "drop"]) {
  $("sequence").addEventListener(name, async (event) => {
    const [file] = event.dataTransfer.files;
    if (name === "dragover" ? !event.dataTransfer.types.includes("Files") : !file) return; // dragged text goes its own way
    event.preventDefault();
    if (name === "drop") work("Reading …", () => readFile(file));
  });
}
addEventListener("popstate", route);
const ready = start().then(describeSequence);
route();

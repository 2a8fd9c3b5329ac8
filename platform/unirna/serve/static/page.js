// The search page: its form, and which view is shown. Plain modules, no build step.

import { addressOf, here, pathOf, searchOf } from "./address.js";
import { $, OWN, Problem, call, counted, labelOrder, modelFiles, reveal, show, showProblem, unlock } from "./common.js";
import { filterFields, filterOf, meetLabels, offerLabels, offerValues, setFilterFields } from "./filter.js";
import { foldInto } from "./fold.js";
import { showHits } from "./hits.js";
import { prepareMap, showMap } from "./map.js";
import { predict, priorOf } from "./predict.js";
import { describe, lastParsed, parse, resolve, textOf } from "./query.js";
import { leaveRecord, showRecord } from "./record.js";

const HINT = "FASTA, FASTQ, GenBank, tables or plain; either case, T is read as U. A file can be dropped here.";
let mostHits = 1000; // the service says
const PAUSE = 200; // milliseconds without a key after which what was typed is read
let collections = new Map();
let predictors = new Map();
let carried = ""; // what was pasted, on the way to the map
let addressShown = location.search + location.hash; // of the search view
let typed = 0;
let folding = {}; // pseudoknots and constraint of the structure shown
let word = ""; // what is to be said when a task is done

// ---- the form

async function readFile(file) {
  const text = await textOf(file);
  await put(text);
}

/** Put a text into the box, and say what it holds. */
async function put(text, at = 0) {
  clearTimeout(typed);
  $("sequence").value = text;
  $("column").replaceChildren();
  $("record-at").replaceChildren();
  await describeSequence();
  if (at && $("record-at").options.length > at) $("record-at").selectedIndex = at;
}

const at = () => Math.max(0, $("record-at").selectedIndex);

/** What was read last, as one record's FASTA: what an address or the map is given. */
function fastaOf() {
  const record = lastParsed().records[at()];
  return record && !record.problem ? (record.name ? `>${record.name}\n${record.sequence}` : record.sequence) : "";
}

async function describeSequence() {
  $("prediction").hidden = $("structure").hidden = true; // they were made for another sequence
  let found;
  try {
    found = await parse($("sequence").value, $("column").value);
  } catch {
    return; // it is said when it is asked for
  }
  if (found !== lastParsed()) return; // another text stands there by now
  const { columns, records } = found;
  const names = records.map((record, i) => `${record.name || `sequence ${i + 1}`} (${i + 1} of ${found.count})${record.problem ? ": cannot be used" : ""}`);
  const chosen = Math.min(at(), Math.max(0, names.length - 1));
  $("record-at").replaceChildren(...names.map((text, i) => new Option(text, i, false, i === chosen)));
  $("which").hidden = names.length < 2;
  $("column").replaceChildren(new Option("choose …", ""), ...columns.map((name) => new Option(name, name, false, name === found.sequence_column)));
  $("which-column").hidden = columns.length < 2;
  tell();
}

function tell() {
  const found = lastParsed();
  const text = describe(found, at());
  const bad = Boolean(found.failure || found.question || (!found.identifier && found.records[at()]?.problem));
  $("sequence-note").textContent = text ? text.charAt(0).toUpperCase() + text.slice(1) : HINT;
  $("sequence-note").classList.toggle("bad", bad);
}

function describeCollection() {
  const picked = collections.get($("collection").value);
  if (!picked) return;
  const columns = ["id", "length", ...labelOrder(Object.keys(picked.columns).filter((name) => !OWN.includes(name)))];
  $("where-note").textContent = `A filter is an SQL condition on ${columns.join(", ")}. Text stands in single quotes, a column's name in double quotes or none.`;
  offerLabels(picked.columns);
  $("map-link").href = `${pathOf("/map")}?${new URLSearchParams({ collection: picked.name })}`;
  $("about").textContent = `${counted(picked.num_rows, "sequence")} in ${picked.name}.`;
  if (!picked.searchable) show($("message"), `${picked.name} was made with another model (${picked.model}) and cannot be searched here.`, true);
}

/** What the chosen predictor takes. */
function describeTask() {
  const { name, requirements, base_rates: rates, thresholds, labels } = predictors.get($("task").value) ?? {};
  $("prior-box").hidden = !rates;
  $("prior").placeholder = thresholds ? "0.05" : `${labels?.[0]}=0.05`;
  const takes = requirements?.text ? `${name.replaceAll("_", " ")} takes ${requirements.text}. ` : "";
  const prior = rates ? `With a prevalence, its probabilities hold for that instead of the share in its training data: ${thresholds ? "one share for all labels, or NAME=SHARE" : "NAME=SHARE"} for some.` : "";
  $("task-note").textContent = takes + prior;
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
  return $(here() === "/map" ? "map-message" : "message");
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
    word = "";
    const made = await task();
    show($("message"), word);
    busy(false);
    if (made) reveal(made);
  } catch (problem) {
    busy(false);
    showProblem($("message"), problem);
  }
}

/** The sequence that is asked about; a stored one that was named by its identifier takes its place in the box. */
async function asked() {
  clearTimeout(typed);
  const text = $("sequence").value;
  const found = await resolve(text, $("collection").value, { column: $("column").value, at: at() });
  if (found.stored && $("sequence").value === text) await put(`>${found.name}\n${found.sequence}`);
  else await describeSequence();
  return found;
}

/** Whether the box still holds what was asked about. */
const holds = ({ sequence }) => lastParsed().records[at()]?.sequence === sequence;

async function loadExample() {
  const { examples } = await call(`/v1/collections/${encodeURIComponent($("collection").value)}`);
  meetLabels(examples);
  if (!examples.length) throw new Problem(404, "The collection is empty.", []);
  const now = lastParsed().records[at()]?.name;
  const next = examples[(examples.findIndex((e) => e.id === now) + 1) % examples.length];
  await put(`>${next.id}\n${next.sequence}`);
}

// ---- hits

async function search() {
  $("results").hidden = true;
  const { sequence } = await asked();
  const k = $("k").value.trim();
  const body = { similar_to: sequence, k: /^-?\d+$/.test(k) ? Number(k) : k, collection: $("collection").value };
  const where = filterOf();
  if (where) body.where = where;
  if (!$("verify").checked) body.verify = false; // else the service decides by the length
  if (typeof body.k === "string") throw new Problem(422, "", [{ field: "k", message: "Hits: a whole number is wanted." }]);
  await showPage(body, sequence, []);
  remember("search");
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
  if (collections.has(collection) && $("collection").value !== collection) {
    $("collection").value = collection;
    describeCollection();
  }
  const ready = put(`>${record.id}\n${record.sequence}`);
  history.pushState({ inside: true, fresh: true }, "", pathOf("/"));
  addressShown = "";
  route();
  work("Searching …", async () => {
    await ready;
    return search();
  });
}

async function fold() {
  $("structure").hidden = true;
  const found = await asked();
  const again = (way) => {
    folding = way;
    remember("fold");
  };
  await foldInto($("fold-here"), found.sequence, found.name || "sequence", folding, again);
  $("structure").hidden = !holds(found); // another one stands there by now
  remember("fold");
  return $("structure");
}

async function predictIt() {
  const task = $("task").value;
  const found = await asked();
  const { lengths, verdict, has_plot } = predictors.get(task);
  $("verdict").textContent = verdict?.text ? `How far to trust it: ${verdict.text}` : "";
  $("verdict").hidden = !verdict?.text;
  $("model-files").replaceChildren(...modelFiles(task, has_plot, (problem) => showProblem($("message"), problem)));
  await predict(found.sequence, task, lengths, $("prior-box").hidden ? undefined : priorOf($("prior").value));
  if (!holds(found)) $("prediction").hidden = true;
  remember("predict");
  return $("prediction");
}

const ACTIONS = { search: ["Searching …", search], fold: ["Folding …", fold], predict: ["Predicting …", predictIt] };

// ---- addresses

/** Give what is shown an address that brings it back. */
function remember(action) {
  if (here() !== "/") return;
  const fields = {
    collection: $("collection").value, where: $("where").value.trim(), ...filterFields(), k: $("k").value === "10" ? "" : $("k").value,
    align: $("verify").checked ? "" : "0", show: action === "search" ? "" : action, task: action === "predict" ? $("task").value : "",
    pseudoknots: action === "fold" && folding.pseudoknots === false ? "0" : "",
    prior: action === "predict" && !$("prior-box").hidden ? $("prior").value.trim() : "",
  };
  const { address, shared } = addressOf(fields, fastaOf(), action === "fold" ? folding.constraint : "");
  // Where one came to this view for this search, it takes the place of the bare address.
  const how = history.state?.fresh ? "replaceState" : "pushState";
  if (address !== location.pathname + location.search + location.hash) history[how]({ inside: true }, "", address);
  addressShown = location.search + location.hash;
  if (!shared) word = "The sequence is too long for an address: a reload brings this back in this tab alone.";
}

/** Bring back what the address says. */
async function restore() {
  const now = location.search + location.hash;
  if (now === addressShown) return;
  const { fields, text, missing, constraint } = searchOf();
  if (location.hash && text === null && !missing) return; // a place on the page
  addressShown = now;
  $("results").hidden = $("prediction").hidden = $("structure").hidden = true;
  show($("message"), "");
  if (collections.has(fields.collection) && fields.collection !== $("collection").value) {
    $("collection").value = fields.collection;
    describeCollection();
  }
  if (missing) return show($("message"), "The sequence of this address was too long for it, and is kept only in the tab that searched with it.", true);
  if (text === null) return;
  $("where").value = fields.where ?? "";
  $("k").value = fields.k ?? "10";
  $("verify").checked = fields.align !== "0";
  setFilterFields(fields);
  if (predictors.has(fields.task)) $("task").value = fields.task;
  $("prior").value = fields.prior ?? "";
  describeTask();
  folding = { pseudoknots: fields.pseudoknots !== "0", constraint };
  await put(text);
  const [what, task] = ACTIONS[fields.show] ?? ACTIONS.search;
  if (now === location.search + location.hash) await work(what, task);
}

// ---- which view

function route() {
  const query = new URLSearchParams(location.search);
  const record = here() === "/record";
  const map = here() === "/map";
  $("record-view").hidden = !record;
  $("map-view").hidden = !map;
  $("search-view").hidden = record || map;
  document.body.classList.toggle("wide", map);
  document.title = record ? `${query.get("id")} · UniRNA` : map ? `Map of ${query.get("collection")} · UniRNA` : "UniRNA";
  if (!record) leaveRecord();
  if (map) showMap(query.get("collection") ?? "", carried);
  carried = "";
  if (record) showRecord(query.get("collection") ?? "", query.get("id") ?? "", findSimilar, predictorsOf);
  if (!record && !map) ready.then(restore);
}

$("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  work(...ACTIONS.search);
});
$("example").addEventListener("click", () => work("Loading an example …", loadExample));
$("fold").addEventListener("click", () => {
  folding = {};
  work(...ACTIONS.fold);
});
$("predict").addEventListener("click", () => work(...ACTIONS.predict));
$("task").addEventListener("change", describeTask);
$("sequence").addEventListener("input", () => {
  $("column").replaceChildren(); // those of another text
  clearTimeout(typed);
  typed = setTimeout(describeSequence, PAUSE);
});
$("collection").addEventListener("change", () => {
  show($("message"), "");
  describeCollection();
});
$("map-link").addEventListener("click", async (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  try {
    await parse($("sequence").value, $("column").value); // what was typed a moment ago is not read yet
  } catch {
    // the map opens without it
  }
  carried = fastaOf();
  history.pushState({ inside: true }, "", $("map-link").href);
  route();
  scrollTo(0, 0);
});
for (const link of [$("home"), $("back"), $("map-back")]) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (link !== $("home") && history.state?.inside) return history.back();
    history.pushState({}, "", pathOf("/"));
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
$("record-at").addEventListener("change", () => {
  $("prediction").hidden = $("structure").hidden = true;
  tell();
});
$("column").addEventListener("change", describeSequence);
for (const name of ["dragover", "drop"]) {
  $("sequence").addEventListener(name, async (event) => {
    const [file] = event.dataTransfer.files;
    if (name === "dragover" ? !event.dataTransfer.types.includes("Files") : !file) return; // dragged text goes its own way
    event.preventDefault();
    if (name === "drop") work("Reading …", () => readFile(file));
  });
}
addEventListener("popstate", route);
tell();
const ready = start().then(() => {
  if (searchOf().text !== null || searchOf().missing) addressShown = ""; // to be brought back
});
route();

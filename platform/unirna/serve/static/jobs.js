// The page of jobs: a form for a collection of one's own, and a list that follows what runs.

import { pathOf } from "./address.js";
import { $, Problem, call, counted, element, fetchBytes, modelFiles, save, show, showProblem, unlock } from "./common.js";
import { parse, textOf } from "./query.js";

const EVERY = 2_000;
const AT_WORK = ["pending", "running"];
const KIND = { embed: "Embedding", screen: "Screen", finetune: "Fine-tuning" };
const cards = new Map(); // id -> the elements of its card
let mayWrite = false;
let chosen = null; // { name, text } of a file
let timer = 0;
let asking = false;
let late = false;
let typed = 0;
const wanted = new URLSearchParams(location.search).get("id"); // the job that the address is of
let brought = false; // into sight

// ---- the list

async function start() {
  try {
    const service = await call("/v1/service");
    unlock();
    mayWrite = service.scope !== "read";
    if (!service.jobs) {
      show($("message"), "This service takes no jobs. Whoever runs it can turn them on with --jobs-folder.");
      return;
    }
    $("embed-form").hidden = !mayWrite;
    $("may-look").hidden = mayWrite;
    describeInput();
    await refresh();
  } catch (problem) {
    if (problem.status !== 401) unlock(); // the key is not what is wrong
    showProblem($("message"), problem);
  }
}

async function refresh() {
  if (asking) {
    late = true; // what was asked for before may not tell of what has just been done
    return;
  }
  asking = true;
  late = false;
  clearTimeout(timer);
  let again = false;
  try {
    const { jobs } = await call("/v1/jobs?limit=50");
    show($("message"), "");
    $("jobs-section").hidden = false;
    $("none").hidden = jobs.length > 0;
    let gone = null;
    if (wanted && !jobs.some((job) => job.id === wanted)) {
      try {
        jobs.push(await call(`/v1/jobs/${encodeURIComponent(wanted)}`));
      } catch (problem) {
        gone = problem;
      }
    }
    draw(jobs);
    if (gone) showProblem($("message"), gone);
    bring();
    again = jobs.some((job) => AT_WORK.includes(job.state));
  } catch (problem) {
    showProblem($("message"), problem);
    again = problem.status === 0 || problem.status === 429 || problem.status >= 500; // it may come back
  } finally {
    asking = false;
  }
  if (late) refresh();
  else if (again && !document.hidden) timer = setTimeout(refresh, EVERY);
}

/** Bring the job that the address is of into sight, once. */
function bring() {
  const card = cards.get(wanted);
  if (!card || brought) return;
  brought = true;
  card.root.classList.add("wanted");
  card.root.scrollIntoView({ block: "center" });
  card.buttons.log.click();
}

function draw(jobs) {
  const known = new Set(jobs.map((job) => job.id));
  for (const [id, card] of cards) {
    if (!known.has(id)) {
      card.root.remove();
      cards.delete(id);
    }
  }
  jobs.forEach((job, place) => {
    if (!cards.has(job.id)) cards.set(job.id, makeCard(job));
    const card = cards.get(job.id);
    if ($("jobs").children[place] !== card.root) $("jobs").insertBefore(card.root, $("jobs").children[place] ?? null);
    update(card, job);
  });
}

function makeCard(job) {
  const card = { job: null };
  const titleId = `title-${job.id}`;
  const button = (text, action, className = "quiet") => {
    const made = element("button", { text, className, attributes: { type: "button", "aria-describedby": titleId } });
    made.addEventListener("click", async () => {
      made.disabled = true;
      try {
        await action();
        show(card.message, "");
      } catch (problem) {
        show(card.message, problem.message, true);
      }
      made.disabled = false;
    });
    return made;
  };
  card.name = element("a", { attributes: { href: `${pathOf("/jobs")}?${new URLSearchParams({ id: job.id })}`, title: "The address of this job" } });
  card.title = element("h3", { attributes: { id: titleId } }, card.name);
  card.state = element("span");
  card.facts = element("p", { className: "hint" });
  card.bar = element("progress", { attributes: { max: "1", "aria-label": "Progress" } });
  card.text = element("p", { className: "said" });
  card.message = element("div", { attributes: { role: "status", "aria-live": "polite" } });
  card.more = element("div");
  card.actions = element("p", { className: "actions" });
  card.buttons = {
    log: button("Log", () => toggle(card, "log", async () => logOf(card.job.id))),
    results: button("Results", () => toggle(card, "results", async () => resultsOf(card.job.id))),
    resume: button("Resume", () => change(card.job.id, "resume")),
    cancel: button("Stop", () => askToStop(card.job)),
  };
  card.link = element("a", { text: "Search in it" });
  card.actions.append(card.link, ...Object.values(card.buttons));
  card.root = element("li", { className: "card job" },
    element("div", { className: "top" }, card.title, card.state), card.facts, card.bar, card.text, card.actions, card.message, card.more);
  return card;
}

function update(card, job) {
  const before = card.job;
  card.job = job;
  const busy = AT_WORK.includes(job.state);
  const what = job.parameters.collection ?? job.parameters.task ?? "";
  card.name.textContent = job.name || [KIND[job.kind], what && `→ ${what}`].filter(Boolean).join(" ");
  card.state.textContent = job.state;
  card.state.className = `state ${job.state}`;
  card.facts.textContent = [
    job.name && [KIND[job.kind], what && `→ ${what}`].filter(Boolean).join(" "),
    `submitted ${when(job.submitted)}${job.by ? ` by ${job.by}` : ""}`,
    job.ended && job.started && `took ${span(new Date(job.ended) - new Date(job.started))}`,
    !job.ended && job.state === "running" && job.started && `for ${span(Date.now() - new Date(job.started))}`,
  ].filter(Boolean).join(" · ");
  card.bar.hidden = job.state !== "running";
  if (job.progress.share === null || job.progress.share === 1) card.bar.removeAttribute("value");
  else card.bar.value = job.progress.share;
  card.text.textContent = job.message || outcome(job) || (job.state === "pending" ? "Waiting for its turn." : job.progress.text || "Starting …");
  card.text.classList.toggle("bad", ["failed", "lost"].includes(job.state));
  card.buttons.cancel.hidden = !busy || !mayWrite || Boolean(job.message); // a message says that it is being stopped
  card.buttons.resume.hidden = !["failed", "stopped", "lost"].includes(job.state) || !mayWrite;
  card.buttons.results.hidden = job.kind !== "screen" || job.state !== "succeeded";
  const made = job.kind === "finetune" && job.state === "succeeded" && job.summary;
  if (made && !card.files) {
    card.files = modelFiles(job.parameters.task, "R2" in job.summary, (problem) => showProblem($("message"), problem));
    card.actions.append(...card.files);
  }
  card.link.hidden = job.kind !== "embed" || job.state !== "succeeded";
  card.link.href = `${pathOf("/")}?${new URLSearchParams({ collection: job.parameters.collection ?? "" })}`;
  if (before && before.state !== job.state) $("said").textContent = `${card.title.textContent}: ${job.state}`;
  if (card.open === "log" && (busy || before?.state !== job.state)) logOf(job.id).then((made) => card.open === "log" && fill(card, made), () => {});
}

function outcome({ kind, state, summary }) {
  if (state !== "succeeded" || !summary) return state === "stopped" ? "Stopped. What it had saved stays." : "";
  const count = (number) => (number ?? 0).toLocaleString("en");
  if (kind === "embed") {
    const rejected = summary.rejected ? `; ${count(summary.rejected)} rejected: no RNA, or an identifier that was taken` : "";
    const there = summary.unchanged ? `, ${count(summary.unchanged)} were there` : "";
    return `${count(summary.new)} of ${counted(summary.read ?? 0, "sequence is", "sequences are")} new in ${summary.collection}${there}${rejected}.`;
  }
  if (kind === "screen") return `${counted(summary.hits ?? 0, "hit")} among ${counted(summary.screened ?? 0, "sequence")}${summary.best ? `; best: ${summary.best.id}` : ""}.`;
  return summary.verdict ? `Verdict: ${summary.verdict}` : "The predictor is on the search page.";
}

const clock = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const when = (text) => clock.format(new Date(text));

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3_600 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

// ---- what a card opens

async function toggle(card, what, make) {
  card.open = card.open === what ? "" : what;
  for (const name of ["log", "results"]) card.buttons[name].setAttribute("aria-expanded", String(card.open === name));
  card.more.replaceChildren();
  if (!card.open) return;
  const made = await make();
  if (card.open === what) fill(card, made);
}

function fill(card, made) {
  const old = card.more.firstChild;
  const atEnd = !old || old.scrollTop + old.clientHeight >= old.scrollHeight - 8;
  if (old?.textContent === made.textContent) return;
  card.more.replaceChildren(made);
  if (atEnd) made.scrollTop = made.scrollHeight;
}

async function logOf(id) {
  const { lines } = await call(`/v1/jobs/${encodeURIComponent(id)}/log?lines=200`);
  return element("pre", { text: lines.join("\n") || "It has said nothing yet.", className: "log", attributes: { tabindex: "0", role: "region", "aria-label": "Log" } });
}

async function resultsOf(id) {
  const path = `/v1/jobs/${encodeURIComponent(id)}/results`;
  const { files } = await call(path);
  const rows = files.map(({ name, bytes }) => {
    const button = element("button", { text: name, className: "quiet", attributes: { type: "button" } });
    button.addEventListener("click", async () => {
      try {
        save(await fetchBytes(`${path}/${encodeURIComponent(name)}`), name, "application/octet-stream");
      } catch (problem) {
        showProblem($("message"), problem);
      }
    });
    return element("li", {}, button, element("span", { text: size(bytes), className: "hint" }));
  });
  return rows.length ? element("ul", { className: "files", attributes: { "aria-label": "Files to save" } }, ...rows) : element("p", { text: "It made no files.", className: "hint" });
}

const size = (bytes) => (bytes < 1_000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// ---- stop and resume

async function change(id, what) {
  await call(`/v1/jobs/${encodeURIComponent(id)}/${what}`, {});
  await refresh();
}

function askToStop(job) {
  $("sure-what").textContent = cards.get(job.id).title.textContent;
  $("sure").showModal();
  $("keep").focus();
  return new Promise((resolve, reject) => {
    let stop = false;
    $("stop").onclick = () => {
      stop = true;
      $("sure").close();
    };
    $("keep").onclick = () => $("sure").close();
    $("sure").onclose = () => (stop ? change(job.id, "cancel").then(resolve, reject) : resolve());
  });
}

// ---- the form

const text = () => (chosen ? chosen.text : $("fasta").value);
const ID_NAMES = ["id", "name", "accession", "identifier"];

/** Say what is there, and ask for the columns of a table. */
async function describeInput() {
  $("fasta").disabled = chosen !== null;
  $("forget").hidden = chosen === null;
  let found;
  try {
    found = await parse(text());
  } catch {
    return null; // it is said when it is submitted
  }
  const table = found.format === "table";
  $("columns").hidden = !table;
  if (table && $("sequence-column").dataset.columns !== found.columns.join("\n")) {
    const fill = (id, chosenName) => $(id).replaceChildren(new Option("choose …", ""), ...found.columns.map((name) => new Option(name, name, false, name === chosenName)));
    fill("sequence-column", found.sequence_column);
    fill("id-column", ID_NAMES.map((wantedName) => found.columns.find((name) => name.toLowerCase() === wantedName)).find(Boolean));
    $("sequence-column").dataset.columns = found.columns.join("\n");
  }
  const bad = found.records.find((record) => record.problem);
  const problem = found.failure || (bad ? `; ${bad.name ? `${bad.name}: ` : ""}${bad.problem}` : "");
  const said = table && found.question ? "A table: choose its columns" : found.count ? counted(found.count, "sequence") + problem : problem;
  $("fasta-note").textContent = chosen ? `${chosen.name}: ${said || "no sequence"}` : said || "FASTA, FASTQ, CSV or TSV: paste it, or drop a file here.";
  return found;
}

async function take(file) {
  try {
    chosen = { name: file.name, text: await textOf(file) };
    show($("embed-message"), "");
  } catch (problem) {
    showProblem($("embed-message"), problem);
  }
  await describeInput();
}

/** The input of a job, and the columns of a table. Jobs read FASTA, FASTQ and tables; what else is pasted becomes FASTA. */
async function inputOf() {
  const wrong = (field, message) => new Problem(422, message, [{ field, message }]);
  if (!text().trim()) throw wrong("input", "Paste sequences first, or choose a file.");
  const found = await parse(text());
  if (found.failure) throw wrong("input", found.failure);
  const [first] = found.records;
  if (first && found.problems === found.count) throw wrong("input", `${first.name ? `${first.name}: ` : ""}${first.problem}`);
  if (found.format === "table") {
    const columns = { sequence_column: $("sequence-column").value, id_column: $("id-column").value };
    for (const [name, column] of Object.entries(columns)) {
      if (!column) throw wrong(`parameters.${name}`, `Which column holds the ${name === "id_column" ? "identifiers" : "sequences"}?`);
    }
    return { input: { [text().split("\n", 1)[0].includes("\t") ? "tsv" : "csv"]: text() }, columns };
  }
  if (found.format === "fasta" || found.format === "fastq") return { input: { [found.format]: text() }, columns: {} };
  if (found.count > found.records.length) throw wrong("input", `These are ${counted(found.count, "sequence")} that are not FASTA: convert them first.`);
  const lines = found.records.map(({ name, sequence, problem }, i) => (problem ? "" : `>${name || `sequence_${i + 1}`}\n${sequence}\n`));
  return { input: { fasta: lines.join("") }, columns: {} };
}

async function submit() {
  const { input, columns } = await inputOf();
  const collection = $("collection").value.trim();
  if (!collection) throw new Problem(422, "", [{ field: "parameters.collection", message: "Give the collection a name." }]);
  const body = { kind: "embed", name: $("name").value.trim(), parameters: { collection, map: $("with-map").checked, ...columns }, input };
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await call("/v1/jobs", body, { "idempotency-key": key });
  chosen = null;
  $("fasta").value = $("name").value = $("file").value = "";
  await describeInput();
  show($("embed-message"), "Submitted: it is the first of the list below.");
  await refresh();
  $("jobs").firstElementChild?.scrollIntoView({ block: "nearest" });
}

$("embed-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.querySelector("#embed-form .primary");
  for (const input of document.querySelectorAll("#embed-form [aria-invalid]")) input.removeAttribute("aria-invalid");
  button.disabled = true;
  show($("embed-message"), "Submitting …");
  try {
    await submit();
  } catch (problem) {
    showProblem($("embed-message"), problem);
  }
  button.disabled = false;
});
$("fasta").addEventListener("input", () => {
  clearTimeout(typed);
  show($("embed-message"), ""); // of another text
  typed = setTimeout(describeInput, 200);
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => $("file").files.length && take($("file").files[0]));
$("forget").addEventListener("click", () => {
  chosen = null;
  $("file").value = "";
  describeInput();
  $("choose").focus();
});
$("embed-form").addEventListener("dragover", (event) => event.preventDefault());
$("embed-form").addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("unirna-key", $("key").value);
  start();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!$("jobs-section").hidden) refresh();
});
start();

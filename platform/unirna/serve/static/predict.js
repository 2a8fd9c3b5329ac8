// What predictors say.

import { disagreement } from "./agreement.js";
import { $, Problem, bar, call, counted, element, percent } from "./common.js";

const MOST = { classes: 5, labels: 20 }; // that are shown; each label is a question of its own

/** The prediction of one sequence, with what the answer says of all: base_rates, thresholds and the prior. */
async function answerOf(letters, task, prior) {
  const answer = await call(`/v1/predict/${encodeURIComponent(task)}`, { sequences: [letters], top: MOST.labels, ...(prior === undefined ? {} : { prior }) });
  return { ...answer.predictions[0], base_rates: answer.base_rates, thresholds: answer.thresholds, prior: answer.prior };
}

/** A prevalence as it is typed: "0.05", "5 %", or shares of named classes, "tRNA=0.2, miRNA=0.1". undefined for none. */
export function priorOf(text) {
  const wrong = (part) => new Problem(422, "", [{ field: "prior", message: `Prevalence: expected a share such as 0.05 or 5 %, or NAME=SHARE for a class, got "${part}".` }]);
  const share = (part) => {
    const [, number, sign] = part.trim().match(/^(\d+\.?\d*|\.\d+)\s*(%?)$/) ?? [];
    if (number === undefined) throw wrong(part.trim());
    return sign ? Number(number) / 100 : Number(number);
  };
  if (!text.trim()) return undefined;
  if (!text.includes("=")) return share(text);
  return Object.fromEntries(text.split(",").filter((part) => part.trim()).map((part) => {
    const at = part.lastIndexOf("=");
    if (at < 1) throw wrong(part.trim());
    return [part.slice(0, at).trim(), share(part.slice(at + 1))];
  }));
}

export async function predict(letters, task, lengths, prior) {
  const found = await answerOf(letters, task, prior);
  $("prediction-title").textContent = `Predicted ${task.replaceAll("_", " ")}`;
  $("value").hidden = Boolean(found.applicable && found.probabilities && !found.labels);
  if (!found.applicable) $("value").textContent = `Not applicable: ${found.reason}.`;
  else if (found.values) $("value").replaceChildren(profileOf(found, letters));
  else if (found.labels) $("value").textContent = labelsText(found);
  else $("value").textContent = found.probabilities ? "" : valueText(found);
  $("classes").replaceChildren(
    ...Object.entries(found.probabilities ?? {}).slice(0, found.labels ? MOST.labels : MOST.classes).map(([name, share]) =>
      element("li", {}, element("span", { text: name }), bar(share), element("span", { text: percent(share, 1), className: "share" }))),
  );
  const doubts = [...doubtsOf(found, letters, lengths), ...contextOf(found)];
  $("beyond").hidden = !doubts.length;
  $("beyond").textContent = doubts.join(" ");
  $("prediction").hidden = false;
}

/** A row for each predictor that applies, filled as the answers come; in `note` whether they contradict each other, in `refusals`
 * those that do not apply. `records`: labels of this sequence and its neighbours, which say what a class is. Ends early when
 * `current` says that nobody looks any more. */
export async function predictAll(place, note, refusals, letters, all, records, current) {
  note.hidden = true;
  refusals.replaceChildren();
  const fits = ({ lengths: [shortest, longest] }) => letters.length >= shortest && letters.length <= longest;
  const predictors = [...all.filter(fits), ...all.filter((predictor) => !fits(predictor))]; // guesses come last
  const rows = predictors.map(({ name }) => [name, element("dd", { text: "…" })]);
  place.replaceChildren(...rows.flatMap(([name, cell]) => [element("dt", { text: name.replaceAll("_", " ") }), cell]));
  const classes = [];
  const refused = [];
  for (const [i, { name, lengths, labels }] of predictors.entries()) {
    const cell = rows[i][1];
    let nodes;
    try {
      const found = await answerOf(letters, name);
      if (!current()) return;
      if (!found.applicable) {
        refused.push(element("li", { text: `${name.replaceAll("_", " ")}: ${found.reason}` }));
        cell.previousElementSibling.remove();
        cell.remove();
        continue;
      }
      if (found.label !== undefined) classes.push({ ...found, name, labels });
      const doubts = [...doubtsOf(found, letters, lengths), ...contextOf(found)].map((text) => element("p", { text, className: "hint" }));
      const shown = found.values ? [profileOf(found, letters)] : [element("span", { text: briefText(found) })];
      nodes = [...shown, ...doubts];
    } catch (problem) {
      nodes = [element("span", { text: problem.errors?.[0]?.message ?? problem.message, className: "hint" })];
    }
    if (!current()) return;
    cell.replaceChildren(...nodes);
  }
  note.textContent = disagreement(classes, records);
  note.hidden = !note.textContent;
  if (!refused.length) return;
  const count = refused.length === 1 ? "1 predictor does" : `${refused.length} predictors do`;
  refusals.replaceChildren(
    element("details", { className: "hint" }, element("summary", { text: `${count} not apply to this sequence` }), element("ul", {}, ...refused)));
}

function briefText(found) {
  if (found.labels) return labelsText(found);
  if (!found.probabilities) return valueText(found);
  const next = Object.entries(found.probabilities).filter(([name]) => name !== found.label).slice(0, 2);
  const others = next.map(([name, share]) => `${name} ${percent(share, 1)}`).join(", ");
  return `${found.label}, ${percent(found.probability, 1)}${others ? `; then ${others}` : ""}`;
}

function labelsText({ labels, thresholds }) {
  const least = Object.values(thresholds ?? { any: 0.5 });
  const [low, high] = [Math.min(...least), Math.max(...least)].map((share) => percent(share));
  return labels.join(", ") || `None of its labels has a probability above its threshold (${low === high ? low : `${low} to ${high}`}).`;
}

/** Motifs that the predictor reports, and the shares that the probabilities of labels hold for. */
function contextOf({ applicable, labels, motifs, base_rates, prior }) {
  if (!applicable) return [];
  const lines = Object.entries(motifs ?? {}).map(([name, has]) => `${has ? "In" : "Not in"} the motif ${name}.`);
  const rates = labels && base_rates ? Object.values(base_rates) : [];
  if (typeof prior === "number") lines.push(`The probabilities hold for a prevalence of ${percent(prior)}, as you stated.`);
  else if (prior) lines.push(`The probabilities hold for the prevalence that you stated: ${Object.entries(prior).map(([name, share]) => `${name} ${percent(share)}`).join(", ")}.`);
  else if (rates.length) {
    const [low, high] = [Math.min(...rates), Math.max(...rates)].map((rate) => percent(rate));
    lines.push(`Each label was true in ${low === high ? low : `${low} to ${high}`} of its training data, and the probabilities hold for that share.`);
  }
  return lines;
}

function doubtsOf(found, letters, [shortest, longest]) {
  const usual = shortest === longest ? `${shortest}` : `${shortest} to ${longest}`;
  const within = letters.length >= shortest && letters.length <= longest;
  const doubts = [];
  if (!found.applicable) return doubts;
  if (!within) doubts.push(`This predictor was made from sequences of ${usual} nucleotides; yours has ${letters.length}, so take it for a guess.`);
  if (found.out_of_distribution) {
    const share = found.conformal_p_value < 0.01 ? "Less than 1 %" : `Only ${percent(found.conformal_p_value)}`;
    doubts.push(`Out of distribution: this sequence is unlike the training data, so do not trust the label. It may belong to none of these classes, or to a family that the training data lack. ${share} of the RNA held out for this test is as unlike.`);
  }
  return doubts;
}

function valueText({ value, low, high, unit }) {
  const shown = (number) => Number(number.toPrecision(4)).toString();
  const interval = low === null ? "" : `; nine of ten such RNAs lie between ${shown(low)} and ${shown(high)}`;
  return `${shown(value)}${unit ? ` ${unit}` : ""}${interval}`;
}

function profileOf({ values, unit, half_width }, letters) {
  const shown = (number) => Number(number.toPrecision(3)).toString();
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + 1e-9);
  const bars = values.map((value, place) => {
    const filled = element("span");
    filled.style.height = `${((100 * (value - low)) / (high - low)).toFixed(1)}%`;
    return element("span", { attributes: { title: `${letters[place] ?? ""}${place + 1}: ${shown(value)}` } }, filled);
  });
  const most = values.indexOf(Math.max(...values));
  const sure = half_width === null ? "" : `; nine of ten lie within ${shown(half_width)} of it`;
  const text = `${counted(values.length, "nucleotide")}, ${shown(Math.min(...values))} to ${shown(Math.max(...values))}${unit ? ` ${unit}` : ""}, highest at ${most + 1}${sure}`;
  const attributes = { role: "img", tabindex: "0", "aria-label": `Value of each nucleotide: ${text}` };
  return element("div", {}, element("div", { className: "profile", attributes }, ...bars), element("p", { text, className: "share" }));
}

// Whether classifiers contradict each other about one RNA.

import { percent } from "./common.js";

const GENERAL = new Set(["box", "cis", "gene", "other", "reg", "rna"]); // say nothing by themselves

function wordsOf(text) {
  return text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word && !GENERAL.has(word));
}

const lastPart = (text) => text.split(";").at(-1);

/** Whether two classes of different predictors may both be right: they share a word, as "5S_rRNA" and "rRNA" do. A general
 * part before a semicolon is not enough: "snoRNA;CD-box" and "snoRNA;HACA-box" differ. */
export function agree(one, other) {
  const shares = (exact, whole) => wordsOf(lastPart(exact)).some((word) => wordsOf(whole).includes(word));
  return shares(one, other) || shares(other, one);
}

/** Whether a class is at least as general as another: "tRNA" is as "tRNA-Sec", "riboswitch" is as "preQ1_riboswitch". */
function includes(general, specific) {
  const words = wordsOf(lastPart(general));
  return words.length > 0 && words.every((word) => wordsOf(specific).includes(word));
}

/** What else records that carry a label as a value of theirs are: that of a family is its type. */
function meaningsOf(label, records) {
  const ofThem = records.map((labels) => Object.values(labels).filter((value) => typeof value === "string")).filter((values) => values.includes(label));
  return (ofThem[0] ?? []).filter((value) => value !== label && ofThem.every((values) => values.includes(value)));
}

/** Whether two answers contradict each other (true), agree (false), or cannot be compared (null). */
function contradict(one, other, records) {
  const [fine, coarse] = one.labels.length >= other.labels.length ? [one, other] : [other, one];
  const meanings = [fine.label, ...meaningsOf(fine.label, records)];
  if (meanings.some((meaning) => agree(meaning, coarse.label))) return false;
  const couldSay = (answer, label) => answer.labels.some((own) => includes(own, label));
  return meanings.some((meaning) => couldSay(coarse, meaning)) || couldSay(fine, coarse.label) ? true : null;
}

const listed = (names) => (names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/** A sentence on classifiers that contradict each other, "" if none do.
 *
 * Two are compared if one of them has a class for what the other says. `answers`: name and labels (all classes) of each
 * predictor, and what it answered: label, probability, out_of_distribution. `records`: labels of stored sequences, which say
 * what a class is (of what type a family). */
export function disagreement(answers, records = []) {
  const apart = new Map(answers.map((answer) => [answer, answers.filter((other) => other !== answer && contradict(answer, other, records))]));
  const involved = answers.filter((answer) => apart.get(answer).length);
  if (!involved.length) return "";
  const sides = [];
  for (const answer of involved) {
    const side = sides.find((members) => members.every((member) => contradict(answer, member, records) === false));
    if (side) side.push(answer);
    else sides.push([answer]);
  }
  const said = ({ name, label, probability, out_of_distribution: outside }) =>
    `${name.replaceAll("_", " ")} says ${label} (${percent(probability)}${outside ? ", out of distribution" : ""})`;
  const inside = involved.filter(({ out_of_distribution: outside }) => !outside);
  const alone = inside.length && sides.some((members) => inside.every((answer) => members.includes(answer)));
  const advice = alone
    ? `To all of these but ${listed(inside.map(({ name }) => name.replaceAll("_", " ")))} the sequence is out of distribution.`
    : "They cannot all be right: look at the neighbours and the labels too.";
  return `The predictors disagree: ${sides.map((members) => listed(members.map(said))).join("; ")}. ${advice}`;
}

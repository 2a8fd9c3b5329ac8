// Whether classifiers contradict each other about one RNA.

const GENERAL = new Set(["box", "cis", "gene", "other", "reg", "rna"]); // say nothing by themselves

function wordsOf(text) {
  return text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word && !GENERAL.has(word));
}

/** Whether two classes of different predictors may both be right: they share a word, as "5S_rRNA" and "rRNA" do. A general
 * part before a semicolon is not enough: "snoRNA;CD-box" and "snoRNA;HACA-box" differ. */
export function agree(one, other) {
  const shares = (exact, whole) => wordsOf(exact.split(";").at(-1)).some((word) => wordsOf(whole).includes(word));
  return shares(one, other) || shares(other, one);
}

/** A sentence on classifiers that contradict each other, "" if none do.
 *
 * Two are compared if one of them has a class for what the other says. `answers`: name and labels (all classes) of each
 * predictor, and what it answered: label, probability, out_of_distribution. */
export function disagreement(answers) {
  const has = ({ labels }, label) => labels.some((own) => agree(own, label));
  const pairs = answers.flatMap((one, i) => answers.slice(i + 1).map((other) => [one, other]));
  const apart = pairs.filter(([one, other]) =>
    !agree(one.label, other.label) && (has(one, other.label) || has(other, one.label)));
  const involved = answers.filter((answer) => apart.some((pair) => pair.includes(answer)));
  if (!involved.length) return "";
  const said = involved.map(({ name, label, probability, out_of_distribution: outside }) =>
    `${name.replaceAll("_", " ")} says ${label} (${(100 * probability).toFixed(0)} %${outside ? ", out of distribution" : ""})`);
  const inside = involved.filter(({ out_of_distribution: outside }) => !outside);
  const advice = inside.length === 1
    ? `Only ${inside[0].name.replaceAll("_", " ")} was trained on RNA like this one.`
    : "At most one of them is right: look at the neighbours and the labels too.";
  return `The predictors disagree: ${said.join("; ")}. ${advice}`;
}

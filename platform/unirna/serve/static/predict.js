// The answer of a predictor.

import { $, bar, call, element } from "./common.js";

export async function predict(letters, task, [shortest, longest]) {
  const answer = await call(`/v1/predict/${encodeURIComponent(task)}`, { sequences: [letters], top: 5 });
  const found = answer.predictions[0];
  $("prediction-title").textContent = `Predicted ${task.replaceAll("_", " ")}`;
  $("value").hidden = Boolean(found.probabilities && !found.labels);
  if (found.values) $("value").replaceChildren(profileOf(found, letters));
  else if (found.labels) $("value").textContent = found.labels.join(", ") || "None of its labels is more probable than not.";
  else $("value").textContent = found.probabilities ? "" : valueText(found);
  $("classes").replaceChildren(
    ...Object.entries(found.probabilities ?? {}).map(([name, share]) =>
      element("li", {}, element("span", { text: name }), bar(share), element("span", { text: `${(100 * share).toFixed(1)} %`, className: "share" }))),
  );
  const usual = shortest === longest ? `${shortest}` : `${shortest} to ${longest}`;
  const within = letters.length >= shortest && letters.length <= longest;
  const doubts = [];
  if (!within) doubts.push(`This predictor was made from sequences of ${usual} nucleotides; yours has ${letters.length}, so take it for a guess.`);
  if (found.known != null && found.known < 0.05) {
    doubts.push(`It may be none of these: of RNA that does belong to them, ${found.known < 0.01 ? "less than 1" : Math.round(100 * found.known)} % gets an answer as unsure.`);
  }
  $("beyond").hidden = !doubts.length;
  $("beyond").textContent = doubts.join(" ");
  $("prediction").hidden = false;
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
  const text = `${values.length} nucleotides, ${shown(Math.min(...values))} to ${shown(Math.max(...values))}${unit ? ` ${unit}` : ""}, highest at ${most + 1}${sure}`;
  const attributes = { role: "img", tabindex: "0", "aria-label": `Value of each nucleotide: ${text}` };
  return element("div", {}, element("div", { className: "profile", attributes }, ...bars), element("p", { text, className: "share" }));
}

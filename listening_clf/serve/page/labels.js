/** Labels as people see them: name, colour, meaning. A model may have labels of its own. */

import { make } from "./dom.js";

/** What the codebook's labels say of an agent turn, and an example. */
const MEANINGS = {
  paraphrase: ["restates what the customer said", "“So you were charged twice for the same order.”"],
  reflection: ["names what the customer feels, values or means", "“That must be frustrating after a week.”"],
  open_question: ["invites the customer to explain", "“What happened when you restarted it?”"],
  summary: ["gathers points from earlier on", "“To recap: refund for the shoes, new pair out Friday.”"],
  interruption: ["starts before the customer has finished", "“and then I –” “Your order number?”"],
};
const SPARE_HUES = 4;

/** Stands among the labels for "the turn has none". */
export const NONE = "";

export const shown = (label) => (label === NONE ? "no label" : label.replaceAll("_", " "));

const hues = new Map(Object.keys(MEANINGS).map((label, number) => [label, String(number)]));
const own = hues.size;

/** The label's colour, as style.css numbers them: the codebook's labels have their own, others take the spare ones. */
export function hue(label) {
  if (label === NONE) return "none";
  if (!hues.has(label)) hues.set(label, String(own + ((hues.size - own) % SPARE_HUES)));
  return hues.get(label);
}

export const chip = (label) => make("span", { className: "chip", data: { hue: hue(label) } }, shown(label));

/** What is known of the labels, as the items of a `dl`. */
export function meanings(labels) {
  return labels.map((label) => {
    const [meaning, example] = MEANINGS[label] ?? ["has a label of this model's own", ""];
    const told = make("dd", {}, `The turn ${meaning}. `, make("span", { className: "hint" }, example));
    return make("div", {}, make("dt", {}, chip(label)), told);
  });
}

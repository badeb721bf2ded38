/** The bar above the turns: how many have each label. A label's tile is at once the filter by it. */

import { make, many, percent, setText } from "./dom.js";
import { hue, NONE, shown } from "./labels.js";

/** @typedef {{agent_turns: number, customer_turns: number, labels: Record<string, number>}} Totals */

export class Summary {
  /**
   * @param {HTMLElement} sides how many turns each side has
   * @param {HTMLElement} tiles
   * @param {() => void} onFilter called when another filter was chosen
   */
  constructor(sides, tiles, onFilter) {
    Object.assign(this, { sides, root: tiles, onFilter });
    /** @type {Set<string>} The labels that are filtered by; none: all turns are wanted. */
    this.wanted = new Set();
    /** @type {Map<string, HTMLElement>} */
    this.tiles = new Map();
  }

  /** A tile for each label of the model, and one for turns without any. */
  setLabels(labels) {
    const all = [...labels, NONE];
    if (all.join() === [...this.tiles.keys()].join()) return;
    this.wanted.clear();
    this.tiles = new Map(all.map((label) => [label, this.#tile(label)]));
    this.root.replaceChildren(...this.tiles.values());
  }

  /**
   * @param {Totals} totals
   * @param {number} without how many agent turns have no label
   */
  set(totals, without) {
    setText(this.sides, `${many(totals.agent_turns, "agent turn")}, ${many(totals.customer_turns, "customer turn")}`);
    for (const [label, tile] of this.tiles) {
      const count = label === NONE ? without : (totals.labels[label] ?? 0);
      const share = totals.agent_turns ? count / totals.agent_turns : 0;
      setText(tile.querySelector("b"), count.toLocaleString("en"));
      setText(tile.querySelector(".rate"), percent(share));
      tile.style.setProperty("--share", share);
    }
  }

  clear() {
    this.wanted.clear();
    this.#filtered();
  }

  #tile(label) {
    const onclick = () => {
      if (!this.wanted.delete(label)) this.wanted.add(label);
      this.#filtered();
    };
    return make(
      "button",
      { type: "button", className: "tile", "aria-pressed": false, data: { hue: hue(label) }, onclick },
      make("span", { className: "name" }, shown(label)),
      make("b", {}),
      " · ",
      make("span", { className: "rate" }),
      make("span", { className: "unseen" }, " of agent turns"),
    );
  }

  #filtered() {
    for (const [label, tile] of this.tiles) tile.setAttribute("aria-pressed", this.wanted.has(label));
    this.onFilter();
  }
}

/** @param {Totals[]} several */
export function sum(several) {
  const all = { agent_turns: 0, customer_turns: 0, labels: {} };
  for (const totals of several) {
    all.agent_turns += totals.agent_turns;
    all.customer_turns += totals.customer_turns;
    for (const [label, count] of Object.entries(totals.labels)) all.labels[label] = (all.labels[label] ?? 0) + count;
  }
  return all;
}

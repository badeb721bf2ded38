/** The probabilities of one agent turn, beside its labels: on hover, on focus, on a tap. Escape puts them away. */

import { make, percent } from "./dom.js";
import { hue, shown } from "./labels.js";

const LINGER = 120; // ms in which the pointer may cross over to them
const tagsOf = (event) => event.target.closest?.(".tags");

export class Scores {
  /**
   * @param {HTMLElement} node
   * @param {import("./view.js").ConversationView} view
   */
  constructor(node, view) {
    this.node = node;
    this.view = view;
    /** @type {HTMLElement | null} The labels that they are shown beside. */
    this.anchor = null;
    const { root } = view;
    root.addEventListener("pointerover", (event) => event.pointerType === "touch" || this.#show(tagsOf(event)));
    root.addEventListener("pointerout", () => this.#leave());
    root.addEventListener("focusin", (event) => this.#show(tagsOf(event)));
    root.addEventListener("focusout", () => this.#leave());
    root.addEventListener("click", (event) => this.#show(tagsOf(event)));
    node.addEventListener("pointerenter", () => clearTimeout(this.leaving));
    node.addEventListener("pointerleave", () => this.#leave());
    addEventListener("keydown", ({ key }) => key === "Escape" && this.hide());
    addEventListener("pointerdown", (event) => tagsOf(event) || node.contains(event.target) || this.hide());
    addEventListener("scroll", () => this.#place(), { passive: true });
    addEventListener("resize", () => this.hide());
  }

  hide() {
    clearTimeout(this.leaving);
    this.anchor = null;
    this.node.hidden = true;
  }

  /** Show what has become of the turn since. */
  refresh() {
    this.#show(this.anchor);
  }

  #show(anchor) {
    const turn = anchor && this.view.turnOf(anchor);
    if (!turn?.scores) return;
    clearTimeout(this.leaving);
    this.anchor = anchor;
    const legend = make("p", { className: "hint" }, make("i", {}), "a label is given from here on");
    this.node.replaceChildren(...this.view.labels.map((label) => this.#line(label, turn)), legend);
    this.node.hidden = false;
    this.#place();
  }

  #line(label, { scores, labels }) {
    const bar = make("span", { className: "track" }, make("i", {}));
    bar.style.setProperty("--p", scores[label]);
    bar.style.setProperty("--threshold", this.view.thresholds[label]);
    const data = { hue: hue(label), given: labels.includes(label) };
    return make("p", { data }, make("span", {}, shown(label)), bar, make("span", {}, percent(scores[label])));
  }

  /** Soon, unless the pointer comes back; then go back to the turn that has the focus. */
  #leave() {
    clearTimeout(this.leaving);
    this.leaving = setTimeout(() => {
      const focused = document.querySelector(".tags:focus-visible");
      if (!focused) this.hide();
      else if (this.anchor) this.#show(focused);
    }, LINGER);
  }

  #place() {
    if (!this.anchor) return;
    const { left, top, bottom } = this.anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const fits = bottom + 6 + height < innerHeight || top < height;
    this.node.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - width - 8))}px`;
    this.node.style.top = `${fits ? bottom + 6 : top - height - 6}px`;
  }
}

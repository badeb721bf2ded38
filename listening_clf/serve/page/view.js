/** The conversation: a list of turns, each agent turn with its labels. Grows and changes while a call is live. */

import { clock, make, many, percent, reducedMotion, setText } from "./dom.js";
import { chip, hue, NONE, shown } from "./labels.js";

/**
 * @typedef {{speaker: "agent" | "customer", text: string, start: number | null, end: number | null,
 *   labels: string[] | null, scores: Record<string, number> | null}} Turn
 * @typedef {{turn: Turn, index: number, final: boolean, element: HTMLElement, said: HTMLElement,
 *   tags?: HTMLElement, told?: HTMLElement}} Row `tags` is the button with the labels, `told` what describes it.
 */

const OVERLAP_SECONDS = 0.2; // by the codebook, less is how people take turns
const DAY = 24 * 60 * 60;

export class ConversationView {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {string[]} */
    this.labels = [];
    /** @type {Record<string, number>} */
    this.thresholds = {};
    this.wanted = new Set();
    root.addEventListener("keydown", (event) => this.#move(event));
    root.addEventListener("focusin", ({ target }) => {
      this.#becomeStop(target.closest(".tags"));
      this.isFresh = false;
    });
  }

  /** Show conversations, each under its name if there are several. */
  show(conversations) {
    this.#clear();
    for (const { id, turns } of conversations) {
      const list = this.#list();
      list.append(...turns.map((turn, index) => this.#row(turn, turns, index).element));
      const name = make("h4", {}, id ?? "Without a name");
      this.root.append(conversations.length > 1 ? make("section", {}, name, list) : list);
    }
    this.filter(this.wanted, this.hidesOthers);
  }

  /** Show nothing yet: the turns will come one by one. */
  expect(turns) {
    this.#clear();
    this.expected = turns;
    this.root.append(this.#list());
  }

  /** A turn that was expected, as far as it has been said. */
  say(index, text, final) {
    const follows = this.#endIsInSight();
    let row = this.rows[index];
    if (!row) {
      row = this.#row({ ...this.expected[index], labels: null, scores: null }, this.expected, index);
      this.root.firstElementChild.append(row.element);
      this.#changed(row);
    }
    row.final = final;
    row.element.classList.toggle("partial", !final);
    setText(row.said, text);
    if (follows) this.#goToEnd();
  }

  /** What the model now says of a turn. */
  judge(index, labels, scores) {
    const row = this.rows[index];
    if (!row?.tags || !labels) return;
    const follows = this.#endIsInSight();
    const isOther = row.turn.labels && row.turn.labels.join() !== labels.join();
    Object.assign(row.turn, { labels, scores });
    this.#showLabels(row);
    row.tags.classList.toggle("changed", isOther);
    this.#changed(row);
    if (follows) this.#goToEnd();
  }

  /** The agent turns that the filter asks for: all, if it asks for nothing. */
  get matching() {
    return this.rows.filter((row) => this.#matches(row));
  }

  /** How many agent turns that are said in full have no label. */
  get without() {
    return this.rows.filter(({ turn, final }) => final && turn.labels?.length === 0).length;
  }

  /** Let all turns step back but those with any of these labels, or hide them. */
  filter(wanted, hidesOthers) {
    Object.assign(this, { wanted, hidesOthers });
    this.root.classList.toggle("hiding", wanted.size > 0 && hidesOthers);
    for (const row of this.rows) this.#emphasise(row);
    this.#tellGaps();
    const { matching } = this;
    if (!matching.some((row) => row.tags === this.stop)) this.#becomeStop(matching[0]?.tags);
    this.isFresh = !this.root.contains(document.activeElement); // nobody is at that turn yet
  }

  /** Go to the next matching agent turn from the one where one was last, or to the previous one. */
  jump(step) {
    const { matching } = this;
    const at = matching.findIndex((row) => row.tags === this.stop);
    this.#focus(matching.at((at + (this.isFresh ? 0 : step)) % matching.length));
  }

  /** The turn that a button with labels belongs to. */
  turnOf(tags) {
    return this.rows.find((row) => row.tags === tags)?.turn;
  }

  #clear() {
    this.rows = [];
    this.stop = null;
    this.root.replaceChildren();
  }

  #list() {
    return make("ol", { className: "turns", role: "list" });
  }

  /** @returns {Row} */
  #row(turn, turns, index) {
    const isAgents = turn.speaker === "agent";
    const who = make("p", { className: "who" }, make("b", {}, isAgents ? "Agent" : "Customer"));
    if (turn.start !== null) who.append(make("span", {}, timeOf(turn, turns)));
    const overlap = isAgents ? overlapOf(turns, index) : 0;
    const isOver = overlap >= OVERLAP_SECONDS;
    if (isOver) who.append(make("span", {}, `over the customer for ${overlap.toFixed(1)} s`));
    const said = make("p", { dir: "auto" }, turn.text);
    const element = make("li", { className: `turn ${turn.speaker}` }, make("div", { className: "bubble" }, who, said));
    element.classList.toggle("over", isOver && turns[index - 1].speaker === "customer");
    const row = { turn, index, final: true, element, said };
    if (isAgents) {
      const id = `told-${this.rows.length}`;
      row.told = make("span", { id, hidden: true });
      row.tags = make("button", { type: "button", className: "tags", tabIndex: -1, "aria-describedby": id });
      element.append(row.tags, row.told);
      this.#showLabels(row);
    }
    this.rows.push(row);
    return row;
  }

  #showLabels({ turn: { labels, scores }, tags, told }) {
    if (!labels) {
      tags.replaceChildren(make("span", { className: "chip", data: { hue: "none" } }, "listening"));
      return;
    }
    const spark = make("span", { className: "spark", "aria-hidden": true });
    for (const label of this.labels) {
      const bar = make("i", { data: { hue: hue(label), given: labels.includes(label) } });
      bar.style.setProperty("--p", scores[label]);
      spark.append(bar);
    }
    const chips = (labels.length ? labels : [NONE]).flatMap((label) => [chip(label), " "]);
    tags.replaceChildren(...chips, spark);
    told.textContent = this.labels.map((label) => `${shown(label)} ${percent(scores[label])}`).join(", ");
  }

  #matches({ turn: { labels }, tags }) {
    if (!this.wanted.size) return Boolean(tags);
    return labels?.length ? labels.some((label) => this.wanted.has(label)) : Boolean(labels) && this.wanted.has(NONE);
  }

  #emphasise(row) {
    row.element.classList.toggle("other", this.wanted.size > 0 && !this.#matches(row));
  }

  #changed(row) {
    this.#emphasise(row);
    if (this.wanted.size) this.#tellGaps();
    if (!this.stop) this.#becomeStop(row.tags);
  }

  /** Say where turns are hidden, and how many. The turn before a match stays: labels are read with it. */
  #tellGaps() {
    let hidden = 0;
    this.rows.forEach((row, number) => {
      const next = this.rows[number + 1];
      const isBeforeMatch = next?.index > row.index && this.#matches(next);
      const isGone = !this.#matches(row) && !isBeforeMatch;
      row.element.classList.toggle("gone", isGone);
      row.element.dataset.gap = hidden && !isGone ? `${many(hidden, "turn")} hidden` : "";
      hidden = isGone ? hidden + 1 : 0;
    });
  }

  /** Arrow keys, j and k, Home and End go from one matching agent turn to another. */
  #move(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step) this.jump(step);
    else if (event.key === "Home") this.#focus(this.matching[0]);
    else if (event.key === "End") this.#focus(this.matching.at(-1));
    else return;
    event.preventDefault();
  }

  #focus(row) {
    row?.element.scrollIntoView({ block: "center" });
    row?.tags.focus({ preventScroll: true });
  }

  /** Tab comes to one of the agent turns only; from there on it is the arrow keys. */
  #becomeStop(tags) {
    if (!tags) return;
    if (this.stop) this.stop.tabIndex = -1;
    this.stop = tags;
    tags.tabIndex = 0;
  }

  #endIsInSight() {
    const last = this.rows.at(-1);
    return !last || last.element.getBoundingClientRect().top < innerHeight;
  }

  #goToEnd() {
    const { element } = this.rows.at(-1);
    element.scrollIntoView({ block: "nearest", behavior: reducedMotion() ? "auto" : "smooth" });
  }
}

function timeOf({ start }, turns) {
  const first = turns.find((turn) => turn.start !== null).start;
  return clock(first > DAY ? start - first : start); // a clock that counts from 1970 tells nobody anything
}

/** For how many seconds a turn is said while the customer's last one still is. */
function overlapOf(turns, index) {
  const { start, end } = turns[index];
  let before = index - 1;
  while (before >= 0 && turns[before].speaker === "agent") before -= 1;
  const until = turns[before]?.end ?? null;
  return start === null || until === null ? 0 : Math.min(until, end ?? until) - start;
}

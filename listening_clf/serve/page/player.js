/** Plays a call over a live connection, at the call's own times. */

import { reducedMotion } from "./dom.js";
import { LiveCall } from "./live.js";

const WORDS_A_SECOND = 2.7; // where the times are not known
const PAUSE = 0.4; // seconds between turns, likewise
const LONGEST_PAUSE = 5; // longer ones are cut short
const TICK = 80; // ms
const MOST_WAITING = 12; // turns without an answer, beyond which the clock waits
const CALM_WORDS = 8; // how many words appear at once where less motion is wanted

const wordsOf = (text) => text.trim().split(/\s+/).length;

/**
 * When each turn begins and finishes, in seconds from the start of playing.
 * @param {import("./view.js").Turn[]} turns
 */
export function schedule(turns) {
  let [begun, spokenUntil, cut] = [0, null, 0];
  return turns.map(({ text, start, end }) => {
    const begin = Math.max(start ?? (spokenUntil === null ? 0 : spokenUntil + PAUSE), begun);
    const isKnown = end !== null && start !== null && end > begin;
    const finish = isKnown ? end : begin + Math.max(0.4, wordsOf(text) / WORDS_A_SECOND);
    if (spokenUntil === null) cut = begin;
    else if (begin - spokenUntil > LONGEST_PAUSE) cut += begin - spokenUntil - LONGEST_PAUSE;
    begun = begin;
    spokenUntil = Math.max(spokenUntil ?? 0, finish);
    return { begin: begin - cut, finish: finish - cut };
  });
}

export class Player {
  /**
   * @param {import("./view.js").Turn[]} turns
   * @param {string} model
   * @param {Record<string, Function>} told `onSaid(index, text, final)`, `onState(state)`, `onTime(seconds, of)`,
   *   `onTurn(message)`, `onEnded(totals)`, `onProblem(problem)`
   */
  constructor(turns, model, told) {
    Object.assign(this, { turns, told });
    this.times = schedule(turns);
    this.length = Math.max(0, ...this.times.map((time) => time.finish));
    this.done = new Set();
    this.time = 0;
    this.speed = 1;
    this.isPlaying = true;
    this.isConnected = false;
    this.wasConnected = false;
    this.isOver = false;
    this.live = new LiveCall(model, {
      onTurn: told.onTurn,
      onConnected: (isConnected) => this.#connected(isConnected),
      onEnded: (totals) => {
        this.#over("ended");
        told.onEnded(totals);
      },
      onProblem: (problem, isOver) => {
        if (isOver) this.#over("failed");
        told.onProblem(problem);
      },
    });
    this.timer = setInterval(() => this.#tick(), TICK);
    this.before = performance.now();
    this.#tellState();
  }

  toggle() {
    this.isPlaying = !this.isPlaying;
    this.#tellState();
  }

  /** Go to where the next turn is said in full, and wait there. */
  step() {
    this.isPlaying = false;
    const open = this.times.filter((_, index) => !this.done.has(index));
    if (open.length && this.isConnected) this.time = Math.max(this.time, Math.min(...open.map((time) => time.finish)));
    this.#say();
    this.#tellState();
  }

  stop() {
    clearInterval(this.timer);
    if (!this.isOver) this.live.abandon();
    this.isOver = true;
  }

  get state() {
    if (!this.isConnected) return this.wasConnected ? "reconnecting" : "connecting";
    return this.isPlaying ? "playing" : "paused";
  }

  #connected(isConnected) {
    this.isConnected = isConnected;
    this.wasConnected ||= isConnected;
    this.#tellState();
  }

  #tellState() {
    if (!this.isOver) this.told.onState(this.state);
  }

  #over(state) {
    this.stop();
    this.told.onState(state);
  }

  #tick() {
    const now = performance.now();
    const passed = ((now - this.before) / 1000) * this.speed;
    this.before = now;
    if (!this.isConnected || this.live.waiting > MOST_WAITING) return;
    if (this.isPlaying) this.time = Math.min(this.time + passed, this.length);
    this.#say();
    const isAllSaid = this.done.size === this.turns.length;
    if (isAllSaid && !this.live.waiting && !this.live.isEnding) this.live.end();
  }

  /** Say of every turn what has been said of it by now. */
  #say() {
    this.told.onTime(this.time, this.length);
    for (let index = 0; index < this.turns.length && this.times[index].begin <= this.time; index += 1) {
      if (!this.done.has(index)) this.#sayTurn(index);
    }
  }

  #sayTurn(index) {
    const { speaker, text, start, end } = this.turns[index];
    const { begin, finish } = this.times[index];
    const share = (this.time - begin) / (finish - begin);
    const final = share >= 1;
    const said = final ? text : beginning(text, share);
    // What is not yet over ends now, as far as anybody can know.
    const until = final || start === null || end === null ? end : Math.min(end, start + share * (end - start));
    this.told.onSaid(index, said, final);
    this.live.say(index, { speaker, text: said, start, end: until }, final);
    if (final) this.done.add(index);
  }
}

/** The words of a text that are said when that share of its time is over. */
function beginning(text, share) {
  const ends = [...text.matchAll(/\S+/g)].map((word) => word.index + word[0].length);
  const calm = reducedMotion() ? CALM_WORDS : 1;
  const count = Math.floor((share * ends.length) / calm) * calm;
  return text.slice(0, ends[Math.min(Math.max(count, calm), ends.length) - 1]);
}

/** A live call's connection: sends turns as they grow, and loses none when the connection drops. */

import { getKey, liveAddress, Problem } from "./api.js";

const PART_EVERY = 300; // ms between parts of a turn
const FIRST_RETRY = 500; // ms; each further one takes twice as long
const LAST_RETRY = 8000;
const [POLICY, TAKEN_OVER] = [1008, 4409]; // what a connection is closed with that shall not come back

export class LiveCall {
  /**
   * @param {string} model
   * @param {Record<string, Function>} told `onTurn(message)`, `onConnected(isConnected)`, `onEnded(totals)`,
   *   `onProblem(problem, isOver)`
   */
  constructor(model, told) {
    const random = crypto.getRandomValues(new Uint32Array(4)); // randomUUID is only there with https
    this.call = `page-${[...random].map((number) => number.toString(36)).join("")}`;
    Object.assign(this, { model, told });
    /** @type {Map<number, object>} The latest message of each turn. */
    this.latest = new Map();
    /** @type {Map<number, number>} The revision of each turn that an answer is awaited to. */
    this.awaited = new Map();
    this.lastPart = new Map();
    this.isOver = false;
    this.retry = FIRST_RETRY;
    this.#connect();
  }

  /** How many turns wait for an answer. */
  get waiting() {
    return this.awaited.size;
  }

  /** Say a turn as far as it is known. Parts are left out as long as the one before has no answer. */
  say(seq, turn, final) {
    const before = this.latest.get(seq);
    if (before?.final || (before && !final && before.text === turn.text)) return;
    const hasTime = !before || performance.now() - this.lastPart.get(seq) >= PART_EVERY;
    if (!final && (this.awaited.has(seq) || !hasTime)) return;
    const known = Object.fromEntries(Object.entries(turn).filter(([, value]) => value !== null));
    const message = { type: "turn", seq, ...known, final, revision: (before?.revision ?? -1) + 1 };
    this.latest.set(seq, message);
    this.lastPart.set(seq, performance.now());
    this.#sendTurn(message);
  }

  /** All has been said. The service answers with the totals, and forgets the call. */
  end() {
    this.isEnding = true;
    this.#send({ type: "end" });
  }

  /** Break off: nothing is told any more. */
  abandon() {
    this.isOver = true;
    clearTimeout(this.timer);
    this.#send({ type: "end" });
    this.socket.close();
  }

  #connect() {
    this.isStarted = false;
    const socket = new WebSocket(liveAddress());
    this.socket = socket;
    socket.onopen = () => {
      const key = getKey();
      this.#write({ type: "start", call: this.call, model: this.model, ...(key && { key }) });
    };
    socket.onmessage = ({ data }) => this.isOver || this.#take(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.isOver || this.#dropped(code, reason);
  }

  #take(message) {
    if (message.type === "started") this.#started(message);
    else if (message.type === "turn") this.#answered(message);
    else if (message.type === "ended") {
      this.isOver = true;
      this.told.onEnded(message.totals);
    } else if (message.type === "error") {
      if (message.seq === undefined) this.awaited.clear();
      else this.awaited.delete(message.seq);
      this.isOver = !this.isStarted && message.status < 500;
      this.told.onProblem(new Problem(message), this.isOver);
    }
  }

  /** Take up where the service is: what it does not know is sent again. */
  #started({ turns }) {
    this.isStarted = true;
    this.retry = FIRST_RETRY;
    this.told.onConnected(true);
    this.awaited.clear();
    const known = new Map(turns.map((turn) => [turn.seq, turn]));
    for (const [seq, message] of this.latest) {
      const theirs = known.get(seq);
      const isMissing = !theirs || theirs.revision < message.revision || theirs.final !== message.final;
      if (isMissing || (message.speaker === "agent" && !theirs.labels)) this.#sendTurn(message);
    }
    for (const turn of turns) this.told.onTurn({ ...turn, status: "repeated" });
    if (this.isEnding) this.end();
  }

  #answered(message) {
    if (message.status !== "updated" && message.revision >= this.awaited.get(message.seq)) {
      this.awaited.delete(message.seq);
    }
    this.told.onTurn(message);
  }

  #dropped(code, reason) {
    if (code === POLICY || code === TAKEN_OVER) {
      this.isOver = true;
      this.told.onProblem(new Problem({ detail: `The service ended the call: ${reason || code}.` }), true);
      return;
    }
    this.isStarted = false;
    this.told.onConnected(false);
    this.timer = setTimeout(() => this.#connect(), this.retry * (0.75 + Math.random() / 2));
    this.retry = Math.min(2 * this.retry, LAST_RETRY);
  }

  #sendTurn(message) {
    this.awaited.set(message.seq, message.revision);
    this.#send(message);
  }

  /** Send what the service may only have once it knows which call this is; else `#started` sends it. */
  #send(message) {
    if (this.isStarted) this.#write(message);
  }

  #write(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}

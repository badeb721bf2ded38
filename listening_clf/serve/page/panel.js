/** The live panel: what plays a call, and what is told while it does. */

import { byId, clock, many, on, sentence, setText } from "./dom.js";
import { shown } from "./labels.js";
import { Player } from "./player.js";

const ANNOUNCE_EVERY = 4000; // ms between what is announced
const STATES = {
  connecting: "Connecting …",
  reconnecting: "Connection lost. Reconnecting …",
  playing: "Live",
  paused: "Paused",
  ended: "The call is over",
  failed: "Stopped",
};

export class LivePanel {
  /**
   * @param {{view: import("./view.js").ConversationView, scores: import("./scores.js").Scores,
   *   showTotals: (totals: object) => void, announce: (words: string) => void,
   *   refuse: (problem: Error) => void}} page `refuse` is called where the service lets nobody in.
   */
  constructor(page) {
    this.page = page;
    /** @type {Player | null} */
    this.player = null;
    /** @type {Map<number, string>} What is still to be announced of which turn. */
    this.news = new Map();
    on("pause", "click", () => (this.player.isOver ? this.play(this.player.turns, this.model) : this.player.toggle()));
    on("step", "click", () => this.player.step());
    on("speed", "change", () => this.#setSpeed());
    addEventListener("pagehide", () => this.player?.stop());
  }

  /** Play a conversation from its beginning. */
  play(turns, model) {
    this.close();
    this.model = model;
    const { view, scores, showTotals, announce, refuse } = this.page;
    scores.hide();
    view.expect(turns);
    showTotals({ agent_turns: 0, customer_turns: 0, labels: {} });
    this.#show(true);
    this.player = new Player(turns, model, {
      onSaid: (index, text, final) => view.say(index, text, final),
      onState: (state) => this.#showState(state),
      onTime: (seconds, of) => this.#showTime(seconds, of),
      onTurn: (message) => this.#judged(message),
      onEnded: (totals) => {
        showTotals(totals);
        const counts = view.labels.map((label) => `${shown(label)} ${totals.labels[label] ?? 0}`);
        announce(`The call is over. ${many(totals.agent_turns, "agent turn")}: ${counts.join(", ")}`);
      },
      onProblem: (problem) => {
        setText(byId("live-state"), sentence(problem.message));
        announce(problem.message);
        if (problem.status === 401) refuse(problem);
      },
    });
    this.#setSpeed();
    byId("pause").focus();
  }

  close() {
    this.player?.stop();
    this.player = null;
    clearTimeout(this.timer);
    this.news.clear();
    this.#show(false);
  }

  #show(isLive) {
    byId("player").hidden = !isLive;
    document.body.classList.toggle("live", isLive);
  }

  #setSpeed() {
    if (this.player) this.player.speed = Number(byId("speed").querySelector(":checked").value);
  }

  #judged({ seq, labels, scores, final, status, totals }) {
    this.page.view.judge(seq, labels, scores);
    if (totals) this.page.showTotals(totals);
    this.page.scores.refresh();
    if (final && labels?.length && status !== "repeated") this.#announceSoon(seq, labels);
  }

  /** Announce the labels of a turn together with those of its neighbours. */
  #announceSoon(seq, labels) {
    if (!this.news.size) {
      this.timer = setTimeout(() => {
        this.page.announce([...this.news.values()].join(", "));
        this.news.clear();
      }, ANNOUNCE_EVERY);
    }
    this.news.set(seq, labels.map(shown).join(" and "));
  }

  #showState(state) {
    const told = byId("live-state");
    if (state === "reconnecting") this.page.announce(STATES.reconnecting);
    else if (told.dataset.state === "reconnecting") this.page.announce("Connected again");
    setText(told, STATES[state]);
    told.dataset.state = state;
    const isOver = state === "ended" || state === "failed";
    setText(byId("pause"), isOver ? "Play again" : state === "paused" ? "Play" : "Pause");
    setText(byId("stop"), isOver ? "Close" : "Stop");
    byId("step").disabled = isOver;
  }

  #showTime(seconds, of) {
    Object.assign(byId("progress"), { max: of, value: seconds });
    setText(byId("clock"), `${clock(seconds)} / ${clock(of)}`);
  }
}

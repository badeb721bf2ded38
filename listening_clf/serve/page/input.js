/** What goes in: a call that is pasted, chosen or dropped, who its agent is, a key; and what is wrong with them. */

import { getKey, Problem, setKey } from "./api.js";
import { byId, make, on, sentence, setText } from "./dom.js";

const PASTED = "pasted call";
const text = byId("text");
const ask = byId("ask");

export class Input {
  /**
   * @param {() => Promise<void>} submit reads what is there
   * @param {() => Promise<void>} unlock tries the new key where nothing is there yet
   */
  constructor(submit, unlock) {
    Object.assign(this, { submit, unlock });
    this.name = PASTED;
    /** @type {File | null} What was chosen, byte for byte, until somebody edits it. */
    this.file = null;
    /** Who is the agent, where the call does not say. */
    this.agent = "";
    on("form", "submit", (event) => {
      event.preventDefault();
      submit();
    });
    on("text", "keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    });
    // What is edited may be another call by now, of another format.
    on("text", "input", () => Object.assign(this, { name: PASTED, file: null, agent: "" }));
    on("choose", "click", () => byId("file").click());
    on("file", "change", ({ target }) => {
      if (target.files.length) this.#take(target.files[0]);
      target.value = "";
    });
    on("example", "click", () => this.#takeExample());
    on("change", "click", () => {
      this.open(byId("input").hidden);
      if (!byId("input").hidden) text.focus();
    });
    this.#takeDropped();
  }

  /** The call, as it is to be sent. */
  get body() {
    return this.file ?? text.value;
  }

  get isEmpty() {
    return !text.value.trim();
  }

  open(isOpen) {
    byId("input").hidden = !isOpen;
    byId("change").setAttribute("aria-expanded", isOpen);
  }

  /** Say that it is being read; with "", that it is no more. */
  busy(words) {
    byId("form").setAttribute("aria-busy", words !== "");
    setText(byId("reading"), words);
  }

  /** Tell what is wrong, beside what was put in; with null, that nothing is. */
  tell(problem) {
    const told = byId("problem");
    told.replaceChildren();
    ask.replaceChildren();
    text.setAttribute("aria-invalid", problem?.status === 422 && !problem.speakers.length);
    if (!problem) return;
    this.open(true);
    const say = (words) => told.append(make("p", {}, sentence(words)));
    told.classList.toggle("question", problem.status === 401 || problem.speakers.length > 0);
    if (problem.status === 401) {
      say(getKey() ? "The service does not know this key" : "This service wants an API key");
      this.#askForKey();
    } else if (problem.speakers.length) {
      say(this.agent ? `In one conversation nobody is called ${this.agent}. Who is the agent?` : "Who is the agent?");
      this.#askForAgent(problem.speakers);
    } else {
      say(problem.message);
      const line = /, line (\d+)/.exec(problem.message)?.[1];
      if (line) told.append(make("button", { type: "button", onclick: () => selectLine(line) }, `Go to line ${line}`));
    }
  }

  async #take(file) {
    text.value = await file.text();
    Object.assign(this, { name: file.name, file, agent: "" });
    await this.submit();
  }

  async #takeExample() {
    const response = await fetch("page/example.vtt").catch(() => null);
    if (response?.ok) await this.#take(new File([await response.blob()], "example.vtt"));
    else this.tell(new Problem());
  }

  #takeDropped() {
    const show = (event, isOver) => {
      if (!event.dataTransfer?.types.includes("Files")) return false;
      event.preventDefault();
      byId("drop").hidden = !isOver;
      return true;
    };
    addEventListener("dragover", (event) => show(event, true));
    addEventListener("dragleave", (event) => event.relatedTarget || show(event, false)); // it has left the window
    addEventListener("drop", (event) => {
      if (!show(event, false)) return;
      const { files } = event.dataTransfer;
      if (files.length === 1) this.#take(files[0]);
      else this.tell(new Problem({ detail: "Drop one file at a time: it may hold several conversations" }));
    });
  }

  #askForAgent(speakers) {
    const choose = (name) => {
      this.agent = name;
      this.submit();
    };
    const choices = speakers.map((name) => make("button", { type: "button", onclick: () => choose(name) }, name));
    ask.append(make("div", { className: "actions", role: "group", "aria-label": "Who is the agent?" }, ...choices));
    choices[0].focus();
  }

  #askForKey() {
    const field = make("input", { type: "password", id: "key", autocomplete: "off" });
    const onsubmit = (event) => {
      event.preventDefault();
      setKey(field.value);
      if (this.isEmpty) this.unlock();
      else this.submit();
    };
    ask.append(
      make(
        "form",
        { className: "actions", onsubmit },
        make("label", { for: "key" }, "API key"),
        field,
        make("button", { className: "primary" }, "Use this key"),
        make("p", { className: "hint" }, "It is kept until this page is closed, and stored nowhere."),
      ),
    );
    field.focus();
  }
}

function selectLine(number) {
  const lines = text.value.split("\n");
  const begin = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  text.focus();
  text.setSelectionRange(begin, begin + lines[number - 1]?.length);
  text.scrollTop = (text.scrollHeight / lines.length) * (number - 3);
}

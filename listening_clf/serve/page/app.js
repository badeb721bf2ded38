/** The page: a call goes in, its turns come out with their labels, at once or as if it were happening. */

import { models, Problem, transcripts } from "./api.js";
import { byId, clock, make, many, on, setText } from "./dom.js";
import { Input } from "./input.js";
import { meanings, shown } from "./labels.js";
import { LivePanel } from "./panel.js";
import { Scores } from "./scores.js";
import { sum, Summary } from "./summary.js";
import { ConversationView } from "./view.js";

const ALL = "all";
const LIVE_TURNS = 2000; // the most that the service takes of one live call
const TRIES = 3; // as often is a busy service asked

const input = new Input(submit, unlock);
const view = new ConversationView(byId("turns"));
const scores = new Scores(byId("scores"), view);
const summary = new Summary(byId("sides"), byId("tiles"), refilter);
const panel = new LivePanel({ view, scores, showTotals, announce, refuse: (problem) => input.tell(problem) });

/** @type {{conversations: object[], model: string} | null} */
let answer = null;
/** What is known of each model. */
let known = [];
/** @type {AbortController | undefined} */
let asking;

/** Ask for the labels of what was put in. */
async function submit() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  input.tell(null);
  input.busy("Reading the call …");
  try {
    if (input.isEmpty) throw new Problem({ detail: "There is nothing to read yet: paste a call, or try the example." });
    await learn();
    const about = { name: input.name.slice(-200), agent: input.agent, model: byId("model").value };
    show(await patiently(() => transcripts(input.body, about, signal), signal));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    input.tell(error);
  } finally {
    if (asking.signal === signal) input.busy("");
  }
}

/** Ask again as long as the service is only busy. */
async function patiently(ask, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 503 || !error.retryAfter || tries === TRIES) throw error;
      input.busy(`The service is busy. It is asked again in ${many(error.retryAfter, "second")} …`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfter));
      signal.throwIfAborted();
    }
  }
}

/** Ask which models there are, and show what they know. */
async function learn() {
  known = await models();
  const select = byId("model");
  const byDefault = known.find((model) => model.is_default) ?? known[0];
  const chosen = known.find((model) => model.name === select.value) ?? byDefault;
  select.replaceChildren(...known.map(({ name }) => make("option", { value: name }, name)));
  select.value = chosen.name;
  byId("model-choice").hidden = known.length < 2;
  showModel();
}

/** Try a key while there is nothing to read. */
async function unlock() {
  await learn().then(() => input.tell(null), (problem) => input.tell(problem));
}

function showModel() {
  const { name, labels, device, sha256, versions } = known.find((model) => model.name === byId("model").value);
  const codebook = versions.codebook ? `codebook ${versions.codebook} · ` : "";
  setText(
    byId("model-line"),
    `Model ${name} · listening_clf ${versions.listening_clf} · ${codebook}${device} · sha256 ${sha256.slice(0, 12)}`,
  );
  byId("meanings-list").replaceChildren(...meanings(labels));
  byId("meanings").hidden = answer !== null;
}

function show(said) {
  answer = said;
  const { conversations } = answer;
  const options = conversations.map(({ id, turns }, value) =>
    make("option", { value }, `${id ?? `Number ${value + 1}`} (${many(turns.length, "turn")})`),
  );
  if (options.length > 1) options.unshift(make("option", { value: ALL }, `All ${options.length.toLocaleString("en")}`));
  byId("conversation").replaceChildren(...options);
  byId("conversation-choice").hidden = options.length < 2;
  document.body.classList.add("answered");
  input.open(false);
  summary.clear();
  byId("meanings").hidden = true;
  byId("result").hidden = false;
  showConversation();
  byId("result-title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** The conversations that are to be seen: all of them, or one. */
function chosen() {
  const { value } = byId("conversation");
  return value === ALL ? answer.conversations : [answer.conversations[value]];
}

function showConversation() {
  panel.close();
  const seen = chosen();
  const one = seen.length === 1 ? seen[0] : null;
  const totals = sum(seen.map((conversation) => conversation.totals));
  const model = known.find(({ name }) => name === answer.model);
  view.labels = model?.labels ?? Object.keys(totals.labels);
  view.thresholds = model?.thresholds ?? {};
  summary.setLabels(view.labels);
  view.show(seen);
  refilter();
  const title = (answer.conversations.length > 1 && one?.id) || input.name;
  setText(byId("result-title"), title);
  document.title = `${title} – listening_clf`;
  showFacts(seen);
  showTotals(totals);
  const play = byId("play-live");
  play.disabled = !one || one.turns.length > LIVE_TURNS;
  play.title = play.disabled ? `Plays one conversation of up to ${LIVE_TURNS.toLocaleString("en")} turns` : "";
  announce(`${many(totals.agent_turns, "agent turn")}, ${totals.agent_turns - view.without} with a label`);
}

function showFacts(seen) {
  const turns = seen.flatMap((conversation) => conversation.turns);
  const facts = [many(turns.length, "turn"), `model ${answer.model}`];
  if (seen.length > 1) facts.unshift(many(seen.length, "conversation"));
  const [{ start }, { end }] = [turns[0], turns.at(-1)];
  if (seen.length === 1 && start !== null && end !== null) facts.splice(1, 0, clock(end - start));
  setText(byId("facts"), facts.join(" · "));
  if (!input.agent) return;
  const onclick = () => {
    input.agent = "";
    submit();
  };
  const change = make("button", { className: "link", onclick, "aria-label": "Change who is the agent" }, "change");
  byId("facts").append(` · the agent is ${input.agent} (`, change, ")");
}

function showTotals(totals) {
  summary.set(totals, view.without);
  tellFilter();
}

function refilter() {
  view.filter(summary.wanted, byId("hide").checked);
  scores.hide();
  tellFilter();
}

function tellFilter() {
  const isFiltered = summary.wanted.size > 0;
  const agents = view.rows.filter((row) => row.tags).length;
  const names = [...summary.wanted].map(shown).join(" or ");
  const found = `${view.matching.length} of ${many(agents, "agent turn")}: ${names}`;
  const hint = "Choose labels to pick out their turns. Arrow keys go from turn to turn.";
  setText(byId("filter-note"), isFiltered ? found : hint);
  byId("filter-actions").hidden = !isFiltered;
}

function announce(words) {
  setText(byId("announce"), words);
}

on("model", "change", () => (answer ? submit() : showModel()));
on("conversation", "change", showConversation);
on("hide", "change", refilter);
on("next", "click", () => view.jump(1));
on("previous", "click", () => view.jump(-1));
on("clear", "click", () => {
  summary.clear();
  byId("tiles").firstElementChild.focus();
});
on("play-live", "click", () => panel.play(chosen()[0].turns, answer.model));
on("stop", "click", () => {
  showConversation();
  byId("play-live").focus();
});

const isHere = /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);
const stays = isHere ? "The call stays on this machine." : `The call goes to ${location.host}, and nowhere else.`;
setText(byId("privacy"), stays);
learn().catch((problem) => {
  if (problem.status === 401) input.tell(problem);
  else setText(byId("model-line"), problem.message);
});

/** The service, as this page asks it. Addresses are relative, so that it may stand behind a path. */

const SILENCE = "The service does not answer. Is it still running?";
let key = "";

/** The API key: kept here and nowhere else, so that it is gone when the page is closed. */
export const getKey = () => key;
export const setKey = (value) => {
  key = value.trim();
};

/** What the service says is wrong (RFC 9457); without a status, that it does not answer. */
export class Problem extends Error {
  constructor({ status = 0, detail = SILENCE, speakers = [] } = {}, retryAfter = 0) {
    super(detail);
    this.status = status;
    /** @type {string[]} Who speaks, where it cannot be told who is the agent. */
    this.speakers = speakers;
    /** Seconds after which to try again; 0: do not. */
    this.retryAfter = retryAfter;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Problem();
  });
  const { status } = response;
  const body = await response.json().catch(() => ({ detail: `The service answered ${status}, without a word.` }));
  if (!response.ok) throw new Problem({ ...body, status }, Number(response.headers.get("Retry-After")));
  return body;
}

/** All models that can be asked. */
export const models = async () => (await ask("v1/models")).models;

/**
 * The conversations of a file, each agent turn with its labels.
 * @param {string | Blob} body the file as it is
 * @param {{name: string, agent: string, model: string}} about
 * @param {AbortSignal} signal
 */
export function transcripts(body, about, signal) {
  const query = new URLSearchParams(Object.entries(about).filter(([, value]) => value));
  const headers = { "Content-Type": "text/plain; charset=utf-8" };
  return ask(`v1/transcripts?${query}`, { method: "POST", body, headers, signal });
}

/** Where live calls are taken. */
export function liveAddress() {
  const address = new URL("v1/live", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address;
}

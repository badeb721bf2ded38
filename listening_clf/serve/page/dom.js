/** Elements, made and found. Text goes in as text, never as HTML. */

export const byId = (id) => document.getElementById(id);

export const on = (id, event, then) => byId(id).addEventListener(event, then);

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} properties `data` is the dataset; a name with a dash, "role" and "for" are attributes.
 * @param {...(Node | string)} children
 */
export function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Put text into an element, unless it is there already: what does not change is not announced. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** "1 turn", "2,000 turns". */
export const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const percent = (share) => `${Math.round(share * 100)} %`;

export const sentence = (words) => words.replace(/^./, (first) => first.toUpperCase()).replace(/[^.?!…]$/, "$&.");

/** Seconds as m:ss or h:mm:ss. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole)}` : `${Math.floor(minutes / 60)}:${two(minutes)}:${two(whole)}`;
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The tab "Assistant": type a text, hear and see it said, interrupt it.

import { AdviceError, getJson, postJson } from "./api.js";
import { element, make } from "./dom.js";

/** @typedef {import("./events.js").ServerEvent} ServerEvent */

/**
 * @typedef {object} AssistantHandlers
 * @property {() => Promise<string>} session the live session's id; opens one if there is none
 * @property {() => string | null} current the same, without opening one
 * @property {(message: object) => void} send by the events channel
 * @property {() => number} soundMs how long sound waits in this browser before it is heard
 * @property {(error: unknown) => void} onProblem
 */

/** Says texts and shows what of them was heard. */
export class Assistant {
  /** @param {AssistantHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.count = 0;
    /** @type {Map<string, {text: string, item: HTMLElement, note: HTMLElement}>} */ this.utterances = new Map();
    this.caption = element("caption");
    this.interruptButton = /** @type {HTMLButtonElement} */ (element("interrupt"));
    element("say-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = /** @type {HTMLTextAreaElement} */ (element("say"));
      void this.say(field.value, /** @type {HTMLSelectElement} */ (element("voice")).value || null);
    });
    this.interruptButton.addEventListener("click", () => void this.interrupt());
  }

  /** Fetch which voices there are. */
  async load() {
    const voices = /** @type {string[]} */ ((await getJson("v1/voices")).voices);
    element("voice").replaceChildren(...(voices.length ? voices.map((name) => new Option(name, name))
      : [new Option("none is installed", "")]));
    /** @type {HTMLButtonElement} */ (element("say-it")).disabled = voices.length === 0;
  }

  /** @param {string} text @param {string | null} voice */
  async say(text, voice) {
    if (!text.trim()) return;
    const utterance = `page-${Date.now().toString(36)}-${this.count++}`;
    try {
      const session = await this.handlers.session();
      this.#list(utterance, text);
      await postJson(`v1/sessions/${session}/speech`, { text, utterance, ...(voice && { voice }) });
      this.interruptButton.disabled = false;
    } catch (error) {
      this.#note(utterance, "not said");
      this.handlers.onProblem(error);
    }
  }

  /** Stop all that is said or waits. */
  async interrupt() {
    const session = this.handlers.current();
    if (!session) return;
    try {
      await postJson(`v1/sessions/${session}/interrupt`);
    } catch (error) {
      if (!(error instanceof AdviceError)) throw error;
      this.handlers.onProblem(error);
    }
  }

  /** @param {ServerEvent} event */
  onEvent(event) {
    if (event.type === "playback.started") this.#started(event.utterance);
    else if (event.type === "playback.spoken") this.#heard(event.utterance, event.played_ms, "being said");
    else if (event.type === "playback.finished") {
      this.#heard(event.utterance, event.played_ms, "said");
      setTimeout(() => this.#report(event.utterance, event.played_ms), this.handlers.soundMs());
      this.#ended();
    } else if (event.type === "interrupted") {
      this.#heard(event.utterance, event.played_ms, event.played_ms ? "cut" : "not said");
      this.#ended();
    }
  }

  /** The call is over, and with it what was being said or waits. */
  end() {
    for (const { note } of this.utterances.values()) {
      note.textContent = (note.textContent ?? "").replace(" – waits", " – not said").replace(" – being said", " – cut");
    }
    this.caption.hidden = true;
    this.interruptButton.disabled = true;
  }

  /** @param {string} utterance @param {string} text */
  #list(utterance, text) {
    const note = make("small", { textContent: " – waits" });
    const item = make("li", {}, text, note);
    this.utterances.set(utterance, { text, item, note });
    const list = element("said");
    list.append(item);
    while (list.children.length > 50) list.firstElementChild?.remove();
    if (this.utterances.size > 50) this.utterances.delete(/** @type {string} */ (this.utterances.keys().next().value));
    list.scrollTop = list.scrollHeight;
  }

  /** @param {string} utterance */
  #started(utterance) {
    const text = this.utterances.get(utterance)?.text;
    this.caption.textContent = text ?? "…";
    this.caption.hidden = false;
    this.interruptButton.disabled = false;
  }

  /** @param {string} utterance @param {number} playedMs @param {string} what */
  #heard(utterance, playedMs, what) {
    this.#note(utterance, `${what}, ${(playedMs / 1000).toFixed(1)} s`);
    this.#report(utterance, Math.max(0, playedMs - this.handlers.soundMs()));
  }

  /** @param {string} utterance @param {string} words what became of it */
  #note(utterance, words) {
    const known = this.utterances.get(utterance);
    if (known) known.note.textContent = ` – ${words}`;
  }

  /** @param {string} utterance @param {number} playedMs */
  #report(utterance, playedMs) {
    this.handlers.send({ type: "playback.reported", utterance, played_ms: Math.round(playedMs) });
  }

  #ended() {
    const waits = [...this.utterances.values()].some(({ note }) => / – (waits|being said)/.test(note.textContent ?? ""));
    this.interruptButton.disabled = !waits;
    if (!waits) this.caption.hidden = true;
  }
}

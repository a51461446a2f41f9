// How the avatar looks: which one, background, mood, where head and eyes point.

import { getJson, request } from "./api.js";
import { element, make, moveWithArrows } from "./dom.js";
import { Pad, throttle } from "./pad.js";

/** The same as model/motion/mood.py. */
export const MOODS = ["neutral", "smile", "sad", "surprised", "angry"];
const TURN_DEG = 20; // at the pad's edge: the head was trained up to here
const NOD_DEG = 12;
const GAZE_RAD = 0.5;
const SEND_EVERY_MS = 80;

/**
 * @typedef {object} LooksHandlers
 * @property {(change: {avatar?: string, controls?: Record<string, unknown>}) => Promise<void>} change
 * @property {(controls: Record<string, unknown>) => void} steer
 */

/** The section "Looks". `avatar` and `controls` are what a new call begins with. */
export class Looks {
  /** @param {LooksHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {string | null} */ this.avatar = null;
    /** @type {Record<string, unknown>} */ this.controls = {};
    /** @type {string[]} */ this.pictures = [];
    this.mood = /** @type {HTMLSelectElement} */ (element("mood"));
    this.strength = /** @type {HTMLInputElement} */ (element("strength"));
    this.background = /** @type {HTMLSelectElement} */ (element("background"));
    this.color = /** @type {HTMLInputElement} */ (element("color"));
    this.mood.append(...MOODS.map((name) => new Option(name, name)));
    this.mood.addEventListener("change", () => this.#ask({ mood: this.mood.value }));
    const strength = throttle(() => this.#steer({ mood_strength: Number(this.strength.value) }), SEND_EVERY_MS);
    this.strength.addEventListener("input", strength);
    this.background.addEventListener("change", () => this.#askBackground());
    this.color.addEventListener("change", () => this.#askBackground());
    this.#makePads();
  }

  /** Fetch what there is to choose from; again after a token was given. */
  async load() {
    const [{ avatars, first }, { backgrounds }] = await Promise.all([getJson("v1/avatars"), getJson("v1/backgrounds")]);
    this.avatar = this.avatar ?? first;
    const names = /** @type {string[]} */ (backgrounds);
    this.background.replaceChildren(new Option("Its own", "own"), new Option("A color", "color"),
      ...names.map((name) => new Option(name, name)));
    await this.#showGallery(avatars);
  }

  /** @param {any[]} avatars */
  async #showGallery(avatars) {
    this.pictures.forEach((url) => URL.revokeObjectURL(url));
    this.pictures = [];
    const items = avatars.map((about) => {
      const blank = make("span", { className: "blank" });
      const item = make("button", { type: "button", title: String(about.name ?? about.id) }, blank, String(about.name ?? about.id));
      item.setAttribute("role", "radio");
      item.dataset.avatar = about.id;
      item.disabled = Boolean(about.error);
      item.addEventListener("click", () => this.#choose(about, items));
      if (about.preview) void this.#showPreview(about.id, blank);
      return item;
    });
    element("gallery").replaceChildren(...items);
    moveWithArrows(items.filter((item) => !item.disabled), (item) => item.click());
    const chosen = avatars.find((about) => about.id === this.avatar);
    if (chosen) this.#mark(chosen, items);
  }

  /** @param {string} id @param {HTMLElement} blank what the picture replaces */
  async #showPreview(id, blank) {
    const response = await request("GET", `v1/avatars/${encodeURIComponent(id)}/preview.jpg`);
    const url = URL.createObjectURL(await response.blob());
    this.pictures.push(url);
    blank.replaceWith(make("img", { src: url, alt: "" }));
  }

  /** @param {any} about @param {HTMLElement[]} items */
  #choose(about, items) {
    this.avatar = about.id;
    this.#mark(about, items);
    void this.handlers.change({ avatar: about.id });
  }

  /** @param {any} about @param {HTMLElement[]} items */
  #mark(about, items) {
    for (const item of items) {
      const chosen = item.dataset.avatar === about.id;
      item.setAttribute("aria-checked", String(chosen));
      item.tabIndex = chosen ? 0 : -1;
    }
    const consent = about.consent?.person ?? about.consent?.given_by;
    const words = [about.licence ?? about.license, typeof about.provenance === "string" ? about.provenance : "", consent];
    element("provenance").textContent = words.filter(Boolean).join(" · ") || "Nothing is known of its origin.";
  }

  #askBackground() {
    const chosen = this.background.value;
    this.color.disabled = chosen !== "color";
    this.#ask({ background: chosen === "color" ? this.color.value : chosen });
  }

  /** @param {Record<string, unknown>} controls */
  #ask(controls) {
    Object.assign(this.controls, controls);
    void this.handlers.change({ controls });
  }

  /** @param {Record<string, unknown>} controls */
  #steer(controls) {
    Object.assign(this.controls, controls);
    this.handlers.steer(controls);
  }

  #makePads() {
    const side = (/** @type {number} */ x) => (x < 0 ? "left" : "right");
    const height = (/** @type {number} */ y) => (y < 0 ? "down" : "up");
    const turn = throttle((/** @type {{x: number, y: number} | null} */ at) => this.#steer(
      { yaw_deg: round((at?.x ?? 0) * TURN_DEG), pitch_deg: round(-(at?.y ?? 0) * NOD_DEG) }), SEND_EVERY_MS);
    new Pad(element("head"), {
      words: (x, y) => `${Math.abs(Math.round(x * TURN_DEG))} degrees ${side(x)}, ${Math.abs(Math.round(y * NOD_DEG))} ${height(y)}`,
      move: turn,
    });
    const look = throttle((/** @type {{x: number, y: number} | null} */ at) => this.#steer(
      { gaze_rad: at && [round(at.x * GAZE_RAD), round(at.y * GAZE_RAD)] }), SEND_EVERY_MS);
    new Pad(element("gaze"), {
      words: (x, y) => `${Math.abs(Math.round(100 * x))} percent ${side(x)}, ${Math.abs(Math.round(100 * y))} ${height(y)}`,
      move: look,
    });
  }
}

/** @param {number} value to a thousandth, never -0 */
const round = (value) => Math.round(value * 1000) / 1000 + 0;

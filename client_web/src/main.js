// The page: one button to start, one to stop, and plain words for what happens in between.

import { AdviceError, LevelMeter, listMicrophones, openMicrophone } from "./microphone.js";
import { AvatarPeer } from "./peer.js";
import { ReceiverStats } from "./stats.js";

/** Allowance for capture, Opus and the packet's own length, before the server hears a sample: an estimate. */
const CAPTURE_MS = 25;
const LOOK_EVERY_MS = 1000;

/** @template {HTMLElement} T @param {string} id @returns {T} */
const element = (id) => /** @type {T} */ (document.getElementById(id));

const video = /** @type {HTMLVideoElement} */ (element("avatar"));
const start = /** @type {HTMLButtonElement} */ (element("start"));
const stop = /** @type {HTMLButtonElement} */ (element("stop"));
const hear = /** @type {HTMLInputElement} */ (element("hear"));
const device = /** @type {HTMLSelectElement} */ (element("device"));

const STATES = {
  idle: "Idle. Press Start and speak.",
  asking: "Asking for the microphone …",
  connecting: "Connecting …",
  live: "Live. The face follows your voice.",
  error: "Stopped.",
};

/** @typedef {keyof typeof STATES} State */

/** @param {State} state @param {string} [text] @param {string} [advice] */
function show(state, text, advice) {
  document.body.dataset.state = state;
  element("state").textContent = text ?? STATES[state];
  element("advice").textContent = advice ?? "";
  element("advice").hidden = !advice;
  const active = state !== "idle" && state !== "error";
  start.disabled = active;
  stop.disabled = !active;
  device.disabled = active;
}

/** One call, from Start to Stop. */
class Call {
  constructor() {
    /** @type {MediaStream | null} */ this.microphone = null;
    /** @type {LevelMeter | null} */ this.meter = null;
    /** @type {import("./events.js").TimingEvent | null} */ this.timing = null;
    this.over = false;
    this.timer = 0;
    this.peer = new AvatarPeer({
      onMedia: (stream) => { if (video.srcObject !== stream) video.srcObject = stream; },
      onEvent: (event) => this.onEvent(event),
      onLost: (error) => this.fail(error),
    });
  }

  async run() {
    try {
      show("asking");
      this.microphone = await openMicrophone(device.value);
      if (this.over) return this.release();
      this.microphone.getAudioTracks()[0].addEventListener("ended", () => this.fail(new AdviceError(
        "The microphone went away.", "Plug it in or choose another, then press Start again.")));
      this.meter = new LevelMeter(this.microphone, showLevel);
      void listMicrophones(device);
      show("connecting");
      await this.peer.connect(this.microphone);
      if (this.over) return;
      show("live");
      const stats = new ReceiverStats(this.peer.connection);
      this.timer = setInterval(async () => showFigures(await stats.look(), this.timing), LOOK_EVERY_MS);
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {import("./events.js").ServerEvent} event */
  onEvent(event) {
    if (event.type === "timing") this.timing = event;
    if (event.type === "error" && event.fatal) {
      const advice = {
        "engine-lost": "The model is being started again. Press Start in a few seconds.",
        "server-stopped": "Start it again with `nerf-lipsync serve`, then press Start.",
      }[event.code] ?? "Press Start to try again.";
      this.fail(new AdviceError(`The server ended the call: ${event.message}.`, advice));
    }
  }

  /** @param {unknown} error */
  fail(error) {
    if (this.over) return;
    this.end();
    const known = error instanceof AdviceError;
    show("error", known ? error.message : "Something went wrong.", known ? error.advice : String(error));
  }

  end() {
    this.over = true;
    clearInterval(this.timer);
    this.peer.close();
    this.release();
    video.srcObject = null;
    showFigures(null, null);
  }

  release() {
    this.meter?.close();
    this.microphone?.getTracks().forEach((track) => track.stop());
  }
}

/** @param {number} level 0..1 */
function showLevel(level) {
  element("level").style.transform = `scaleX(${level})`;
  element("meter").setAttribute("aria-valuenow", String(Math.round(level * 100)));
}

/** @param {import("./stats.js").Received | null} received @param {import("./events.js").TimingEvent | null} timing */
function showFigures(received, timing) {
  const known = received && timing;
  const total = known ? CAPTURE_MS + received.networkMs + timing.total_ms + received.playoutMs : 0;
  const milliseconds = (/** @type {number} */ value) => `${Math.round(value)} ms`;
  element("total").textContent = known ? milliseconds(total) : "–";
  element("algorithmic").textContent = known ? milliseconds(timing.algorithmic_ms) : "–";
  element("own").textContent = known ? milliseconds(total - timing.algorithmic_ms) : "–";
  element("fps").textContent = received ? received.fps.toFixed(1) : "–";
}

/** @type {Call | null} */
let call = null;

start.addEventListener("click", () => {
  call = new Call();
  void call.run();
});
stop.addEventListener("click", () => {
  call?.end();
  call = null;
  show("idle");
  start.focus();
});
hear.addEventListener("change", () => { video.muted = !hear.checked; });
addEventListener("pagehide", () => call?.end());
navigator.mediaDevices?.addEventListener("devicechange", () => void listMicrophones(device));
void listMicrophones(device);
show("idle");

// For tests and the curious: the present connection.
Object.defineProperty(globalThis, "avatarConnection", { get: () => call?.peer.connection ?? null });
Object.defineProperty(globalThis, "avatarCall", { get: () => call });

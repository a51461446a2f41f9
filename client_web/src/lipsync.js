// Holds the picture until its sound is heard. Chromium moves neither by itself while they are within 30 ms of each other,
// looks only at where it means to show the picture, not at where it does, and lets go of a picture that it held back long
// after its sound needs it no more (see docs/reliability.md). Browsers that do not tell when they play what are left alone.

/** Sound this much after its picture is the middle of what nobody notices: 45 ms before to 125 ms after (ITU-R BT.1359). */
export const AIM_MS = 25;
const BAND_MS = 10; // left alone
const LOOK_MS = 500;
const STEP_MS = 40; // browsers move the picture by 100 ms a second
const MOST_MS = 400;
const ABSURD_MS = 2000; // no estimate yet, or a tab that slept

/**
 * @typedef {object} Playing
 * @property {number} aheadMs picture before sound, where they are played
 * @property {number} targetMs what the browser's video buffer aims at
 */

/** How long the picture is held back at least, from two looks in a row that agree. */
export class Hold {
  constructor() {
    this.ms = 0;
    /** @type {number | null} */ this.last = null;
  }

  /** @param {Playing | null} playing null: not known @returns {boolean} whether `ms` is another now */
  look(playing) {
    const before = this.last;
    const known = playing !== null && Math.abs(playing.aheadMs) < ABSURD_MS;
    this.last = known ? playing.aheadMs - AIM_MS : null;
    if (!known || before === null || this.last === null || before * this.last <= 0) return false;
    const least = Math.sign(before) * Math.min(Math.abs(before), Math.abs(this.last));
    if (Math.abs(least) < BAND_MS) return false;
    const from = least > 0 ? Math.max(this.ms, playing.targetMs) : this.ms;
    const next = Math.round(Math.min(MOST_MS, Math.max(0, from + Math.min(STEP_MS, Math.max(-STEP_MS, least)))));
    if (next === this.ms) return false;
    this.ms = next;
    this.last = null; // what is seen next is of before the move
    return true;
  }
}

/** Looks at one connection from `start` to `stop`. */
export class LipSync {
  /** @param {RTCPeerConnection} connection */
  constructor(connection) {
    this.connection = connection;
    this.hold = new Hold();
    this.timer = 0;
    /** @type {{video: any, audio: any}} */ this.last = { video: {}, audio: {} };
  }

  start() {
    this.stop();
    this.timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  /** Idempotent. */
  stop() {
    clearInterval(this.timer);
  }

  async #look() {
    const receiver = this.connection.getReceivers().find((one) => one.track.kind === "video");
    if (!receiver || !("jitterBufferTarget" in receiver)) return this.stop();
    if (this.hold.look(await this.#playing())) receiver.jitterBufferTarget = this.hold.ms;
  }

  /** @returns {Promise<Playing | null>} */
  async #playing() {
    /** @type {{video: any, audio: any}} */ const now = { video: {}, audio: {} };
    (await this.connection.getStats()).forEach((entry) => {
      if (entry.type === "inbound-rtp") now[/** @type {"video" | "audio"} */ (entry.kind)] = entry;
    });
    const { video, audio } = this.last;
    this.last = now;
    const frames = now.video.jitterBufferEmittedCount - video.jitterBufferEmittedCount;
    const samples = now.audio.jitterBufferEmittedCount - audio.jitterBufferEmittedCount;
    if (!(frames > 0 && samples > 0 && now.video.estimatedPlayoutTimestamp && now.audio.estimatedPlayoutTimestamp)) return null;
    return {
      aheadMs: now.video.estimatedPlayoutTimestamp - now.audio.estimatedPlayoutTimestamp,
      targetMs: (1000 * (now.video.jitterBufferTargetDelay - video.jitterBufferTargetDelay)) / frames,
    };
  }
}

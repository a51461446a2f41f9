// Holds the picture until its sound is heard. Chromium moves neither by itself while they are within 30 ms of each other,
// looks only at where it means to show the picture, not at where it does, and lets go of a picture that it held back long
// after its sound needs it no more (see docs/reliability.md). Browsers that do not tell when they play what are left alone.

/** Sound this much after its picture. Nobody notices 45 ms before to 125 ms after (ITU-R BT.1359), but from 30 ms on
 * Chromium itself would hold the picture, and would not let go in time. */
export const AIM_MS = 18;
const BAND_MS = 8; // left alone
const LOOK_MS = 500;
const MOST_MS = 1000;
const ABSURD_MS = 2000; // no estimate yet, or a tab that slept
const HANDED_ON_MS = 10; // a picture leaves the buffer so much before it is shown (libwebrtc's render delay)

/**
 * @typedef {object} Playing
 * @property {number} aheadMs picture before sound, where they are played
 * @property {number} waitedMs of late, a picture in the browser's buffer
 * @property {number} targetMs of late, what that buffer aimed at
 */

/** How long the picture is held back at least, by two looks in a row that agree. */
export class Hold {
  constructor() {
    this.ms = 0;
    /** @type {number | null} */ this.last = null;
  }

  /** @param {Playing | null} playing null: not known @returns {boolean} whether `ms` is another now */
  look(playing) {
    const { last } = this;
    const known = playing !== null && Math.abs(playing.aheadMs) < ABSURD_MS;
    this.last = known ? playing.waitedMs + HANDED_ON_MS + playing.aheadMs - AIM_MS : null;
    if (!known || last === null || this.last === null) return false;
    const before = this.ms;
    const least = Math.min(last, this.last);
    const most = Math.max(last, this.last);
    if (least > Math.max(before, playing.targetMs) + BAND_MS) this.ms = Math.round(Math.min(least, MOST_MS));
    else if (most < before - BAND_MS) this.ms = Math.round(Math.max(most, 0));
    return this.ms !== before;
  }
}

/** Looks at one connection from `start` to `stop`. */
export class LipSync {
  /** @param {RTCPeerConnection} connection */
  constructor(connection) {
    this.connection = connection;
    this.hold = new Hold();
    /** @type {number | null} */ this.aheadMs = null; // by the last look
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
    const playing = await this.#playing();
    this.aheadMs = playing?.aheadMs ?? null;
    if (this.hold.look(playing)) receiver.jitterBufferTarget = this.hold.ms;
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
      waitedMs: (1000 * (now.video.jitterBufferDelay - video.jitterBufferDelay)) / frames,
      targetMs: (1000 * (now.video.jitterBufferTargetDelay - video.jitterBufferTargetDelay)) / frames,
    };
  }
}

// <nerf-lipsync-avatar server="https://…" avatar="default" ticket="…">: an avatar in any page, spoken through by that
// page's assistant. One file, no other needed. See docs/page.md.

const SOCKET_PROTOCOL = "nerf-lipsync";
const RATE_HZ = 48_000; // of the sound that comes
const FRAME_SAMPLES = 1920; // of it to a picture
const BUFFER_MS = 120; // what is kept against uneven arrival
const MOST_DRIFT_S = 0.08;
const MOST_BYTES = 1 << 15; // of sound sent at once
const JPEG = 1;
const PCM = 2;
const RATES_HZ = [16_000, 24_000, 48_000];

const STYLE = `
  :host { display: inline-block; position: relative; width: 256px; aspect-ratio: 1; overflow: hidden; background: #d9dedb; }
  canvas { width: 100%; height: 100%; display: block; }
  span { position: absolute; top: 4%; right: 4%; padding: .1em .6em; border-radius: 1em;
    font: 13px system-ui, sans-serif; background: rgb(0 0 0 / .72); color: #fff; }
`;

/** @typedef {{utterance: string, played_ms: number, interrupted: boolean}} Spoken */
/** @typedef {AsyncIterable<ArrayBuffer | ArrayBufferView>} SoundStream 16-bit mono samples at the attribute `rate` */

/** The element. Dispatches `ready`, `started`, `spoken`, `finished`, `interrupted`, `notice`, `error` and `closed`. */
export class NerfLipsyncAvatar extends HTMLElement {
  static observedAttributes = ["avatar", "ticket"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "A synthetic avatar");
    const label = document.createElement("span");
    label.textContent = "synthetic";
    this.label = label;
    root.append(this.canvas, label);
    /** @type {WebSocket | null} */ this.socket = null;
    /** @type {Promise<void> | null} */ this.opening = null;
    /** @type {Player | null} */ this.player = null;
    /** @type {Map<string, {resolve: (spoken: Spoken) => void, reject: (error: Error) => void}>} */ this.waiting = new Map();
    /** @type {(() => void)[]} */ this.roomWaiters = [];
    this.roomMs = 0;
    this.count = 0;
    this.onPageHide = () => this.disconnect(); // browsers keep pages that were left, with their sockets open
  }

  connectedCallback() {
    addEventListener("pagehide", this.onPageHide);
    if (this.hasAttribute("ticket")) this.connect().catch(() => undefined); // `error` and `closed` tell
  }

  disconnectedCallback() {
    removeEventListener("pagehide", this.onPageHide);
    this.disconnect();
  }

  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (before === now || !this.isConnected || !now) return;
    if (name === "ticket" && !this.opening) this.connect().catch(() => undefined);
    if (name === "avatar" && this.socket) this.#send({ type: "control", avatar: now });
  }

  /** Open the session; the first `speak` does it too. Resolves when the avatar is ready, rejects if it is refused. */
  connect() {
    if (this.opening) return this.opening;
    /** @type {Promise<void>} */
    const opening = new Promise((resolve, reject) => this.#open(resolve, reject));
    this.opening = opening;
    opening.catch(() => {
      if (!this.socket && this.opening === opening) this.opening = null; // an attribute is wrong: it may be right the next time
    });
    return opening;
  }

  /** End the session; idempotent. */
  disconnect() {
    this.socket?.close();
    this.#closed("disconnected");
  }

  /**
   * Say a text with a voice of the server, or sound as it comes.
   * @param {string | SoundStream} what @param {{voice?: string}} [options]
   * @returns {Promise<Spoken>} once all of it was said, or it was cut; rejected if it is refused
   */
  async speak(what, options = {}) {
    await this.connect();
    void this.player?.resume();
    const utterance = `element-${Date.now().toString(36)}-${this.count++}`;
    /** @type {Promise<Spoken>} */
    const spoken = new Promise((resolve, reject) => this.waiting.set(utterance, { resolve, reject }));
    spoken.catch(() => undefined); // it may be refused while sound is still sent
    if (typeof what === "string") {
      this.#send({ type: "say", text: what, utterance, ...(options.voice && { voice: options.voice }) });
    } else {
      this.#send({ type: "utterance.begin", utterance });
      for await (const part of pieces(what)) {
        if (!this.waiting.has(utterance)) break; // interrupted
        await this.#sendSound(part);
      }
      if (this.waiting.has(utterance)) this.#send({ type: "utterance.end" });
    }
    return spoken;
  }

  /** Stop what is being said and what waits. */
  interrupt() {
    this.#send({ type: "interrupt" });
  }

  /**
   * Turn the head, look somewhere, change mood or background; what is left out stays as it is.
   * @param {{yaw_deg?: number, pitch_deg?: number, roll_deg?: number, gaze_rad?: [number, number] | null, mood?: string,
   *   mood_strength?: number, head_motion?: number, idle?: boolean, background?: string}} controls
   */
  async setPose(controls) {
    await this.connect();
    this.#send({ type: "control", controls });
  }

  get #rateHz() {
    const rate = Number(this.getAttribute("rate") ?? 24_000);
    if (!RATES_HZ.includes(rate)) throw new RangeError(`rate must be one of ${RATES_HZ}, got ${rate}`);
    return rate;
  }

  /** @param {() => void} resolve @param {(error: Error) => void} reject */
  #open(resolve, reject) {
    const rate_hz = this.#rateHz;
    const ticket = this.getAttribute("ticket");
    const url = new URL("v1/speak", new URL(this.getAttribute("server") || ".", document.baseURI));
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, [SOCKET_PROTOCOL, ...(ticket ? [`ticket.${ticket}`] : [])]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.player = new Player(this.canvas);
    socket.addEventListener("open", () => {
      const avatar = this.getAttribute("avatar");
      socket.send(JSON.stringify({ type: "start", rate_hz, frames: "jpeg", ...(avatar && { avatar }) }));
    });
    socket.addEventListener("message", ({ data }) => {
      if (typeof data !== "string") return this.player?.take(data);
      const event = JSON.parse(data);
      if (event.type === "ready") {
        this.label.textContent = event.recorded ? "synthetic, recorded" : "synthetic";
        resolve();
      }
      if (event.type === "error") reject(new Error(event.message));
      this.#heard(event);
    });
    socket.addEventListener("close", ({ reason }) => {
      const why = reason || "the server refused the connection: is the ticket used up, or this page's host not allowed?";
      reject(new Error(why));
      if (this.socket === socket) this.#closed(why);
    });
  }

  /** @param {any} event of stream_server/events.py */
  #heard(event) {
    if (event.type === "speech.room") {
      this.roomMs = event.room_ms;
      this.roomWaiters.splice(0).forEach((go) => go());
      return;
    }
    const names = { "playback.started": "started", "playback.spoken": "spoken", "playback.finished": "finished" };
    const name = names[/** @type {keyof typeof names} */ (event.type)] ?? event.type;
    if (name === "finished" || name === "interrupted") {
      const { utterance, played_ms } = event;
      this.waiting.get(utterance)?.resolve({ utterance, played_ms, interrupted: name === "interrupted" });
      this.waiting.delete(utterance);
    }
    if (name === "notice" && event.utterance) {
      this.waiting.get(event.utterance)?.reject(new Error(event.message));
      this.waiting.delete(event.utterance);
    }
    if (name === "interrupted") this.player?.cut(event.sample * (RATE_HZ / 16_000));
    this.dispatchEvent(new CustomEvent(name, { detail: event }));
  }

  /** @param {object} message */
  #send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {Uint8Array} part */
  async #sendSound(part) {
    const lastsMs = (part.byteLength / 2 / this.#rateHz) * 1000;
    while (this.roomMs < lastsMs && this.socket) {
      await new Promise((resolve) => this.roomWaiters.push(() => resolve(undefined)));
    }
    this.roomMs -= lastsMs;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(/** @type {any} */ (part));
  }

  /** @param {string} why */
  #closed(why) {
    if (!this.socket) return;
    this.socket = null;
    this.opening = null;
    this.player?.close();
    this.player = null;
    this.roomWaiters.splice(0).forEach((go) => go());
    for (const { reject } of this.waiting.values()) reject(new Error(why));
    this.waiting.clear();
    this.dispatchEvent(new CustomEvent("closed", { detail: { reason: why } }));
  }
}

/**
 * Whole samples, in pieces that a message may hold: what a network hands over ends anywhere.
 * @param {SoundStream} sound
 */
async function* pieces(sound) {
  let rest = new Uint8Array(0); // half a sample
  for await (const part of sound) {
    const bytes = ArrayBuffer.isView(part) ? new Uint8Array(part.buffer, part.byteOffset, part.byteLength) : new Uint8Array(part);
    const all = new Uint8Array(rest.length + bytes.length);
    all.set(rest);
    all.set(bytes, rest.length);
    const whole = all.length - (all.length % 2);
    for (let at = 0; at < whole; at += MOST_BYTES) yield all.subarray(at, Math.min(whole, at + MOST_BYTES));
    rest = all.slice(whole);
  }
}

/** Plays sound blocks one after the other and shows each picture with its own sound. */
class Player {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = new AudioContext({ sampleRate: RATE_HZ });
    /** @type {number | null} */ this.originMs = null; // page time of media position 0
    this.nextPosition = -1;
    this.nextAt = 0;
    /** @type {Map<AudioBufferSourceNode, number>} */ this.sounds = new Map();
    /** @type {{dueMs: number, picture: ImageBitmap}[]} */ this.pictures = [];
    this.running = true;
    this.#draw();
  }

  /** Browsers may ask for a click before a page sounds. */
  async resume() {
    if (this.context.state === "suspended") await this.context.resume();
  }

  /** @param {ArrayBuffer} message see stream_server/worker/sinks/socket_media.py */
  take(message) {
    const view = new DataView(message);
    const index = view.getUint32(4);
    if (view.getUint8(0) === JPEG) void this.#picture(index, message);
    if (view.getUint8(0) === PCM) this.#sound(index, new Int16Array(message, 8));
  }

  /** @param {number} position sound from here on is not played */
  cut(position) {
    for (const [source, at] of this.sounds) if (at >= position) source.stop();
  }

  close() {
    this.running = false;
    void this.context.close();
    this.pictures.splice(0).forEach(({ picture }) => picture.close());
  }

  /** @param {number} position @returns {number} page time, ms; moves on if what came would be late */
  #due(position) {
    const at = (position / RATE_HZ) * 1000;
    const now = performance.now();
    if (this.originMs === null || this.originMs + at < now) this.originMs = now + BUFFER_MS - at;
    return this.originMs + at;
  }

  /** @param {number} index @param {ArrayBuffer} message */
  async #picture(index, message) {
    const dueMs = this.#due(index * FRAME_SAMPLES);
    const picture = await createImageBitmap(new Blob([new Uint8Array(message, 8)], { type: "image/jpeg" }));
    if (!this.running || this.pictures.length > 50) return picture.close(); // a tab in the background draws nothing
    this.pictures.push({ dueMs, picture });
  }

  /** @param {number} position @param {Int16Array} samples */
  #sound(position, samples) {
    const dueMs = this.#due(position);
    if (this.context.state !== "running") return;
    const wanted = this.context.currentTime + (dueMs - performance.now()) / 1000;
    const joined = position === this.nextPosition && Math.abs(this.nextAt - wanted) < MOST_DRIFT_S;
    const at = joined ? this.nextAt : wanted;
    const buffer = this.context.createBuffer(1, samples.length, RATE_HZ);
    buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.addEventListener("ended", () => this.sounds.delete(source));
    source.start(Math.max(0, at));
    this.sounds.set(source, position);
    this.nextPosition = position + samples.length;
    this.nextAt = at + samples.length / RATE_HZ;
  }

  #draw() {
    if (!this.running) return;
    const now = performance.now() - 1000 * (this.context.outputLatency || 0);
    while (this.pictures[1] && this.pictures[1].dueMs <= now) this.pictures.shift()?.picture.close();
    const [first] = this.pictures;
    if (first && first.dueMs <= now) {
      const { picture } = first;
      if (this.canvas.width !== picture.width) this.canvas.width = this.canvas.height = picture.width;
      this.canvas.getContext("2d")?.drawImage(picture, 0, 0);
      this.pictures.shift();
      picture.close();
    }
    requestAnimationFrame(() => this.#draw());
  }
}

customElements.define("nerf-lipsync-avatar", NerfLipsyncAvatar);

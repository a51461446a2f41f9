// One session with the server: SDP offer and answer over HTTP, media and events over WebRTC.

import { decode } from "./events.js";
import { AdviceError } from "./microphone.js";

const GATHERING_MS = 2000;
const CONNECTING_MS = 15000;

/** @returns {Record<string, string>} the token comes as #token=... so that it reaches no log */
export function authorization() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * @typedef {object} Handlers
 * @property {(stream: MediaStream) => void} onMedia
 * @property {(event: import("./events.js").ServerEvent) => void} onEvent
 * @property {(error: AdviceError) => void} onLost after having been connected
 */

/** A connection to the avatar. */
export class AvatarPeer {
  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.connection = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
    this.media = new MediaStream();
    /** @type {string | null} */
    this.location = null;
    this.closed = false;
  }

  /**
   * Connect; resolves when media flows.
   * @param {MediaStream} microphone
   */
  async connect(microphone) {
    const { connection } = this;
    connection.addEventListener("track", ({ track }) => {
      this.media.addTrack(track);
      this.handlers.onMedia(this.media);
    });
    const channel = connection.createDataChannel("events", { ordered: true });
    channel.addEventListener("message", ({ data }) => this.#receive(data));
    channel.addEventListener("close", () => this.#lost());
    connection.addTransceiver(microphone.getAudioTracks()[0], { direction: "sendrecv", streams: [microphone] });
    connection.addTransceiver("video", { direction: "recvonly" });
    await connection.setLocalDescription(await connection.createOffer());
    await this.#gathered();
    const answer = await this.#post(/** @type {RTCSessionDescription} */ (connection.localDescription).sdp);
    if (this.closed) return this.#forget();
    await connection.setRemoteDescription(answer);
    await this.#connected();
    connection.addEventListener("connectionstatechange", () => this.#watch());
  }

  /** End the session; idempotent. */
  close() {
    if (this.closed) return;
    this.closed = true;
    this.connection.close();
    this.#forget();
  }

  /** @param {string} data */
  #receive(data) {
    const event = decode(data);
    if (event) this.handlers.onEvent(event);
  }

  /** @param {string} sdp @returns {Promise<RTCSessionDescriptionInit>} */
  async #post(sdp) {
    let response;
    try {
      response = await fetch("v1/sessions", {
        method: "POST",
        headers: { "Content-Type": "application/json", ...authorization() },
        body: JSON.stringify({ sdp, type: "offer" }),
      });
    } catch {
      throw new AdviceError("The server does not answer.", "See whether `nerf-lipsync serve` is still running.");
    }
    if (!response.ok) throw await adviceFor(response);
    this.location = response.headers.get("Location");
    const { sdp: answer } = await response.json();
    return { type: "answer", sdp: answer };
  }

  #gathered() {
    const { connection } = this;
    return new Promise((resolve) => {
      const done = () => connection.iceGatheringState === "complete" && resolve(undefined);
      connection.addEventListener("icegatheringstatechange", done);
      setTimeout(() => resolve(undefined), GATHERING_MS);
      done();
    });
  }

  #connected() {
    const { connection } = this;
    return new Promise((resolve, reject) => {
      const refuse = () => reject(new AdviceError("No media connection to the server.",
        "A firewall may block UDP between this browser and the server."));
      const look = () => {
        if (connection.connectionState === "connected") resolve(undefined);
        else if (connection.connectionState === "failed") refuse();
      };
      connection.addEventListener("connectionstatechange", look);
      setTimeout(refuse, CONNECTING_MS);
      look();
    });
  }

  #watch() {
    if (["failed", "closed"].includes(this.connection.connectionState)) this.#lost();
  }

  #lost() {
    if (this.closed) return;
    this.handlers.onLost(new AdviceError("The connection was lost.", "Press Start to connect again."));
  }

  #forget() {
    if (!this.location) return;
    void fetch(this.location, { method: "DELETE", keepalive: true, headers: authorization() }).catch(() => undefined);
    this.location = null;
  }
}

/** @param {Response} response */
async function adviceFor(response) {
  const problem = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("Retry-After") ?? 5);
  switch (problem.code) {
    case "busy":
      return new AdviceError("Someone else is speaking with the avatar.", `Try again in ${wait} seconds.`);
    case "not-ready":
      return new AdviceError("The avatar is still being loaded.", `Try again in ${wait} seconds.`);
    case "token-needed":
      return new AdviceError("This server asks for a token.", "Open the page with #token=... at the end of its address.");
    default:
      return new AdviceError("The server refused the call.", problem.detail ?? `HTTP status ${response.status}`);
  }
}

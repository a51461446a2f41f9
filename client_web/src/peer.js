// One WebRTC connection to a session: an SDP offer and answer over HTTP, media and events over WebRTC.

import { AdviceError, getJson, postJson, request } from "./api.js";
import { decode } from "./events.js";
import { LipSync } from "./lipsync.js";

const GATHERING_MS = 1500;
const CONNECTING_MS = 15000;
const GIVE_UP_MS = 3000; // "disconnected" may heal by itself
const HEARTBEAT_MS = 1000; // how often the server reports on the events channel
const MISSED_MS = 3000;

/**
 * @typedef {object} Handlers
 * @property {(stream: MediaStream) => void} onMedia
 * @property {(event: import("./events.js").ServerEvent) => void} onEvent
 * @property {() => void} onLost after having been connected
 */

/** @typedef {{id: string, resumeToken: string, avatar: string}} Session */

/** @returns {Promise<RTCIceServer[]>} */
export async function iceServers() {
  return (await getJson("v1/ice-servers")).ice_servers;
}

/** A connection to the avatar. After `close`, `leave` or `onLost` it is not used again. */
export class AvatarPeer {
  /** @param {Handlers} handlers @param {RTCIceServer[]} servers */
  constructor(handlers, servers) {
    this.handlers = handlers;
    this.relayed = servers.length > 0;
    this.connection = new RTCPeerConnection({ iceServers: servers, bundlePolicy: "max-bundle" });
    this.lipSync = new LipSync(this.connection);
    this.media = new MediaStream();
    this.channel = this.connection.createDataChannel("events", { ordered: true });
    /** @type {Session | null} */ this.session = null;
    this.closed = false;
    this.timer = 0;
    this.heartbeat = 0;
  }

  /**
   * Connect; resolves when media flows.
   * @param {MediaStream | null} microphone null: only look and listen
   * @param {string} path where the offer goes: "v1/sessions", or a session's "…/resume"
   * @param {object} options more members of the offer
   */
  async connect(microphone, path, options) {
    const { connection, channel } = this;
    connection.addEventListener("track", ({ track }) => {
      this.media.addTrack(track);
      this.handlers.onMedia(this.media);
    });
    channel.addEventListener("message", ({ data }) => this.#receive(data));
    channel.addEventListener("close", () => this.#lost());
    const track = microphone?.getAudioTracks()[0];
    if (microphone && track) connection.addTransceiver(track, { direction: "sendrecv", streams: [microphone] });
    else connection.addTransceiver("audio", { direction: "recvonly" });
    connection.addTransceiver("video", { direction: "recvonly" });
    await connection.setLocalDescription(await connection.createOffer());
    await this.#gathered();
    const sdp = /** @type {RTCSessionDescription} */ (connection.localDescription).sdp;
    const answer = await postJson(path, { sdp, type: "offer", ...options });
    this.session = { id: answer.id, resumeToken: answer.resume_token, avatar: answer.avatar };
    if (this.closed) return this.#forget();
    await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    await this.#connected();
    this.lipSync.start();
    if (answer.ingresses) this.#listenForHeartbeat();
    connection.addEventListener("connectionstatechange", () => this.#watch());
    this.#watch();
  }

  /** @param {object} message to the session, by the events channel; false if it is not open */
  send(message) {
    if (this.channel.readyState !== "open") return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  /** @param {MediaStreamTrack} track another microphone */
  async replaceMicrophone(track) {
    const sender = this.connection.getSenders().find((one) => one.track?.kind === "audio");
    await sender?.replaceTrack(track);
  }

  /** End the session; idempotent. */
  close() {
    if (this.closed) return;
    this.drop();
    this.#forget();
  }

  /** End the connection but not the session, which another connection has now; idempotent. */
  drop() {
    this.leave();
    this.connection.close();
  }

  /** Hear no more of it. It stays open: a server that hears it close ends the session, before another can take over. */
  leave() {
    this.closed = true;
    this.lipSync.stop();
    clearTimeout(this.timer);
    clearInterval(this.heartbeat);
  }

  /** In a cluster others can take over: a server that is gone is noticed long before ICE does. */
  #listenForHeartbeat() {
    let heard = performance.now();
    let looked = heard;
    this.channel.addEventListener("message", () => { heard = performance.now(); });
    this.heartbeat = setInterval(() => {
      const now = performance.now();
      const slept = now - looked > 2 * HEARTBEAT_MS; // this page itself stood still
      looked = now;
      if (slept) heard = now;
      else if (now - heard > MISSED_MS) this.#lost();
    }, HEARTBEAT_MS);
  }

  /** @param {string} data */
  #receive(data) {
    const event = decode(data);
    if (event) this.handlers.onEvent(event);
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
    const advice = this.relayed
      ? "Neither the direct way nor the server's TURN relay let the media through. Try another network."
      : "A firewall may block UDP. Allow UDP to the server, or let its operator add a TURN relay (--turn-url).";
    return new Promise((resolve, reject) => {
      const refuse = () => reject(new AdviceError("No media connection to the server.", advice, "no-udp"));
      const look = () => {
        if (connection.connectionState === "connected") resolve(undefined);
        else if (["failed", "closed"].includes(connection.connectionState)) refuse();
      };
      connection.addEventListener("connectionstatechange", look);
      setTimeout(refuse, CONNECTING_MS);
      look();
    });
  }

  #watch() {
    const state = this.connection.connectionState;
    clearTimeout(this.timer);
    if (["failed", "closed"].includes(state)) this.#lost();
    else if (state === "disconnected") this.timer = setTimeout(() => this.#lost(), GIVE_UP_MS);
  }

  #lost() {
    if (this.closed) return;
    this.leave();
    this.handlers.onLost();
  }

  #forget() {
    if (!this.session) return;
    void request("DELETE", `v1/sessions/${this.session.id}`, undefined, { keepalive: true }).catch(() => undefined);
    this.session = null;
  }
}

// A call from Start to Stop: microphone, queue, connection, and coming back after the network went away.

import { AdviceError, BusyError, request } from "./api.js";
import { meterOf, openMicrophone } from "./microphone.js";
import { AvatarPeer, iceServers } from "./peer.js";

const COME_BACK_MS = 60_000; // the server keeps a lost session for 30 s; after that a new one begins
const RETRY_MS = 1000;

/** @typedef {"asking" | "waiting" | "connecting" | "live" | "reconnecting" | "error"} CallState */

/**
 * @typedef {object} CallView
 * @property {(state: CallState, text?: string, advice?: string, code?: string) => void} onState
 * @property {(stream: MediaStream) => void} onMedia
 * @property {(event: import("./events.js").ServerEvent) => void} onEvent
 * @property {(level: number) => void} onLevel the microphone's, 0..1
 */

/**
 * @typedef {object} CallWishes
 * @property {"microphone" | "speech"} source
 * @property {string} deviceId
 * @property {string | null} avatar
 * @property {Record<string, unknown>} controls
 * @property {string | null} room
 * @property {boolean} muted
 */

/** One call. */
export class Call {
  /** @param {CallWishes} wishes @param {CallView} view */
  constructor(wishes, view) {
    this.wishes = wishes;
    this.view = view;
    /** @type {MediaStream | null} */ this.microphone = null;
    /** @type {import("./microphone.js").LevelMeter | null} */ this.meter = null;
    /** @type {AvatarPeer | null} */ this.peer = null;
    /** @type {AvatarPeer | null} */ this.lost = null; // kept until another took over
    /** @type {import("./peer.js").Session | null} */ this.session = null;
    /** @type {RTCIceServer[]} */ this.servers = [];
    this.over = false;
    this.comingBack = false;
    /** @type {(() => void) | null} */ this.wake = null;
    this.onOnline = () => this.#networkIsBack();
    this.onOffline = () => this.live && this.view.onState("reconnecting", "This device is offline.");
  }

  get live() {
    return this.peer?.connection.connectionState === "connected" && !this.comingBack;
  }

  /** From the click to a live call. */
  async run() {
    try {
      if (this.wishes.source === "microphone") {
        this.view.onState("asking");
        await this.#listen();
      }
      if (this.over) return;
      this.view.onState("connecting");
      this.servers = await iceServers();
      await this.#open();
      if (this.over) return;
      addEventListener("online", this.onOnline);
      addEventListener("offline", this.onOffline);
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {import("./events.js").ServerEvent} event */
  onEvent(event) {
    if (event.type === "error" && event.fatal) {
      const advice = {
        "engine-lost": "The model is being started again. Press Start in a few seconds.",
        "server-stopped": "Start it again with `nerf-lipsync serve`, then press Start.",
      }[event.code] ?? "Press Start to try again.";
      this.fail(new AdviceError(`The server ended the call: ${event.message}.`, advice, event.code));
    }
    this.view.onEvent(event);
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.wishes.muted = muted;
    this.microphone?.getAudioTracks().forEach((track) => { track.enabled = !muted; });
  }

  /** @param {string} deviceId change the microphone without ending the call; what is asked for last holds */
  async changeMicrophone(deviceId) {
    this.wishes.deviceId = deviceId;
    if (!this.microphone) return;
    const old = await this.#listen();
    if (!old) return;
    try {
      const track = this.microphone.getAudioTracks()[0];
      if (track) await this.peer?.replaceMicrophone(track);
    } finally {
      old.getTracks().forEach((one) => one.stop());
    }
  }

  /** @param {Record<string, unknown>} controls sent without waiting for an answer */
  steer(controls) {
    Object.assign(this.wishes.controls, controls);
    this.peer?.send({ type: "control", controls });
  }

  /**
   * Change the avatar or controls and learn whether the server could.
   * @param {{avatar?: string, controls?: Record<string, unknown>}} body
   */
  async change(body) {
    if (body.avatar) this.wishes.avatar = body.avatar;
    if (body.controls) Object.assign(this.wishes.controls, body.controls);
    if (this.session) await request("PATCH", `v1/sessions/${this.session.id}`, body);
  }

  /** @param {unknown} error */
  fail(error) {
    if (this.over) return;
    this.end();
    const known = error instanceof AdviceError;
    if (known) this.view.onState("error", error.message, error.advice, error.code);
    else this.view.onState("error", "Something went wrong.", String(error));
  }

  /** Idempotent. */
  end() {
    if (this.over) return;
    this.over = true;
    removeEventListener("online", this.onOnline);
    removeEventListener("offline", this.onOffline);
    this.wake?.();
    this.lost?.drop();
    if (this.peer?.session) this.peer.close();
    else {
      this.peer?.drop();
      const { session } = this; // one that was being resumed
      if (session) void request("DELETE", `v1/sessions/${session.id}`).catch(() => undefined);
    }
    this.meter?.close();
    this.microphone?.getTracks().forEach((track) => track.stop());
  }

  /** @returns {Promise<MediaStream | null>} what the new microphone takes the place of, which is the caller's to stop */
  async #listen() {
    const { deviceId } = this.wishes;
    const stream = await openMicrophone(deviceId);
    if (this.over || deviceId !== this.wishes.deviceId) { // not wanted any more
      stream.getTracks().forEach((track) => track.stop());
      return null;
    }
    this.meter?.close();
    const old = this.microphone;
    this.microphone = stream;
    this.mute(this.wishes.muted);
    stream.getAudioTracks()[0]?.addEventListener("ended", () => {
      if (this.microphone === stream) {
        this.fail(new AdviceError("The microphone went away.",
          "Plug it in or choose another, then press Start again.", "no-microphone"));
      }
    });
    this.meter = meterOf(stream, this.view.onLevel);
    return old;
  }

  /** A new session; waits in the queue as long as it takes. */
  async #open() {
    let ticket = null;
    while (!this.over) {
      const { source, avatar, room } = this.wishes;
      const controls = { ...this.wishes.controls };
      try {
        await this.#connect("v1/sessions", {
          source, controls, ...(avatar && { avatar }), ...(room && { room }), ...(ticket && { queue_ticket: ticket }),
        });
        return this.#catchUp(avatar, controls);
      } catch (error) {
        if (!(error instanceof BusyError)) throw error;
        ticket = error.ticket;
        this.view.onState("waiting", `All places are taken. You are number ${error.position} in the queue.`,
          `The call begins by itself when a place is free; the next try is in ${error.waitS} s.`, "busy");
        await this.#pause(1000 * error.waitS);
      }
    }
  }

  /**
   * Ask for what was chosen while the session was being opened with these: it did not hear of that.
   * @param {string | null} avatar @param {Record<string, unknown>} controls
   */
  #catchUp(avatar, controls) {
    const { wishes } = this;
    const body = {
      ...(wishes.avatar && wishes.avatar !== avatar && { avatar: wishes.avatar }),
      ...(JSON.stringify(wishes.controls) !== JSON.stringify(controls) && { controls: wishes.controls }),
    };
    if (this.over || !Object.keys(body).length) return;
    this.change(body).catch((error) => {
      const message = String(error.advice ?? error).replace(/\.$/, "");
      this.view.onEvent({ type: "notice", code: "refused", message });
    });
  }

  /** @param {string} path @param {object} options */
  async #connect(path, options) {
    const peer = new AvatarPeer({
      onMedia: this.view.onMedia,
      onEvent: (event) => { if (this.peer === peer) this.onEvent(event); },
      onLost: () => { if (this.peer === peer) void this.#comeBack(); },
    }, this.servers);
    this.peer = peer;
    try {
      await peer.connect(this.microphone, path, options);
    } catch (error) {
      if (path.endsWith("/resume")) peer.drop();
      else peer.close();
      throw error;
    }
    if (this.over) return peer.close();
    this.lost?.drop();
    this.lost = null;
    this.session = peer.session;
    this.view.onState("live");
  }

  #networkIsBack() {
    if (this.comingBack) this.wake?.();
    else if (!this.over && this.session) {
      this.peer?.leave();
      void this.#comeBack();
    }
  }

  /** Another connection to the same session; a new session where the server does not know it any more. */
  async #comeBack() {
    if (this.over || this.comingBack || !this.session) return;
    this.comingBack = true;
    this.lost = this.peer;
    this.view.onState("reconnecting");
    const until = performance.now() + COME_BACK_MS;
    let known = true; // whether the server may still know the session
    try {
      while (!this.over) {
        try {
          if (!known) return await this.#open();
          const { id, resumeToken } = this.session;
          this.servers = await iceServers(); // a relay's credentials last ten minutes
          await this.#connect(`v1/sessions/${id}/resume`, { resume_token: resumeToken });
          return;
        } catch (error) {
          const code = error instanceof AdviceError ? error.code : "";
          if (known && (code === "no-such-session" || code === "token-needed")) {
            known = false; // a server that was started again: it may be loading yet
            continue;
          }
          if (performance.now() > until || !["no-answer", "not-ready", "no-udp", "busy"].includes(code)) throw error;
          await this.#pause(RETRY_MS);
        }
      }
    } catch (error) {
      this.#lostFor(error);
    } finally {
      this.comingBack = false;
    }
  }

  /** @param {unknown} error */
  #lostFor(error) {
    const why = error instanceof AdviceError ? `${error.message} ${error.advice}` : String(error);
    const code = error instanceof AdviceError ? error.code : "";
    this.fail(new AdviceError("The connection was lost.", `${why} Press Start to call again.`, code));
  }

  /** @param {number} milliseconds or until `wake` is called */
  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => { clearTimeout(timer); resolve(undefined); };
    });
  }
}

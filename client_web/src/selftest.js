// Can a call work here? Each check says what was found and, if it is bad, what to do.

import { AdviceError, BusyError, getJson } from "./api.js";
import { element, make } from "./dom.js";
import { openMicrophone } from "./microphone.js";
import { AvatarPeer, iceServers } from "./peer.js";
import { ReceiverStats } from "./stats.js";

const LISTEN_MS = 1500;
const QUIET_DB = -55;
const LOOK_MS = 700;

/** @typedef {{name: string, good: boolean | null, found: string, advice?: string}} Check good null: could not be tried */

/**
 * Run all checks and show them as they come.
 * @param {string} deviceId the microphone @param {RTCPeerConnection | null} live a call's connection: no other is opened
 * @returns {Promise<Check[]>}
 */
export async function selfTest(deviceId, live) {
  const panel = element("report");
  const list = make("ul", { className: "checks" });
  const wait = make("p", { className: "hint", textContent: "Testing …" });
  wait.setAttribute("role", "status");
  panel.replaceChildren(make("h2", { textContent: "Self-test" }), list, wait);
  panel.hidden = false;
  /** @type {Check[]} */ const checks = [];
  for (const check of [server, () => microphone(deviceId), () => media(live)]) {
    const found = await check();
    checks.push(found);
    list.append(line(found));
  }
  const bad = checks.filter(({ good }) => good === false).length;
  wait.textContent = bad ? `${bad} of ${checks.length} checks found a problem.` : "Calls should work here.";
  return checks;
}

/** @param {Check} check */
function line({ name, good, found, advice }) {
  const sign = good === null ? "–" : good ? "✓" : "✗";
  const item = make("li", { className: good === null ? "" : good ? "good" : "bad" },
    make("b", { textContent: sign, ariaHidden: "true" }), make("span", { textContent: `${name}: ${found}` }));
  if (advice) item.append(make("small", { textContent: advice }));
  return item;
}

/** @param {string} name @param {unknown} error @returns {Check} */
function failed(name, error) {
  const known = error instanceof AdviceError;
  return { name, good: false, found: known ? error.message : String(error), advice: known ? error.advice : undefined };
}

/** @returns {Promise<Check>} */
async function server() {
  const name = "Server";
  try {
    await getJson("v1/avatars"); // needs the token, where there is one
    const { sessions, limit } = await getJson("readyz");
    return { name, good: true, found: `ready, ${sessions} of ${limit} places taken` };
  } catch (error) {
    return failed(name, error);
  }
}

/** @param {string} deviceId @returns {Promise<Check>} */
async function microphone(deviceId) {
  const name = "Microphone";
  try {
    const stream = await openMicrophone(deviceId);
    const label = stream.getAudioTracks()[0]?.label || "it";
    const peak = await loudest(stream).finally(() => stream.getTracks().forEach((track) => track.stop()));
    if (peak < QUIET_DB) {
      return { name, good: false, found: `“${label}” works but hears nothing`,
        advice: "Speak while the test runs; look whether the microphone is muted or the wrong one is chosen." };
    }
    return { name, good: true, found: `“${label}” hears you, at ${Math.round(peak)} dB` };
  } catch (error) {
    return failed(name, error);
  }
}

/** @param {MediaStream} stream @returns {Promise<number>} dBFS of the loudest moment within `LISTEN_MS` */
async function loudest(stream) {
  const context = new AudioContext();
  try {
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let peak = -120;
    const end = performance.now() + LISTEN_MS;
    while (performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 40));
      analyser.getFloatTimeDomainData(samples);
      peak = Math.max(peak, 10 * Math.log10(samples.reduce((sum, x) => sum + x * x, 0) / samples.length + 1e-12));
    }
    return peak;
  } finally {
    await context.close();
  }
}

/** @param {RTCPeerConnection | null} live @returns {Promise<Check>} */
async function media(live) {
  const name = "Media";
  if (live) return { name, good: true, ...await route(live) };
  /** @type {AvatarPeer | null} */ let peer = null;
  try {
    const servers = await iceServers();
    peer = new AvatarPeer({ onMedia: () => undefined, onEvent: () => undefined, onLost: () => undefined }, servers);
    await peer.connect(null, "v1/sessions", { source: "speech" });
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    return { name, good: true, ...await route(peer.connection) };
  } catch (error) {
    if (error instanceof BusyError) {
      return { name, good: null, found: `not tried: all places are taken; ${error.position - 1} wait before you`,
        advice: "Press Start: the call begins by itself when it is your turn." };
    }
    return failed(name, error);
  } finally {
    peer?.close();
  }
}

/** @param {RTCPeerConnection} connection @returns {Promise<{found: string, advice?: string}>} */
async function route(connection) {
  const received = await new ReceiverStats(connection).look();
  const found = `connected (${received.route}), round trip ${Math.round(2 * received.networkMs)} ms`;
  return received.route.startsWith("relay")
    ? { found, advice: "The direct way is blocked: media go through the server's TURN relay, which adds delay." } : { found };
}

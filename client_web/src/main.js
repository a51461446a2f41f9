// The page: joins the call with the controls around it.

import { AdviceError, setToken, takeFragment } from "./api.js";
import { Assistant } from "./assistant.js";
import { Call } from "./call.js";
import { element, moveWithArrows } from "./dom.js";
import { LatencyPanel } from "./latency.js";
import { Looks } from "./looks.js";
import { listMicrophones } from "./microphone.js";
import { PopOut } from "./popout.js";
import { Room } from "./room.js";
import { selfTest } from "./selftest.js";
import { ReceiverStats } from "./stats.js";

const LOOK_EVERY_MS = 1000;
const THEME_KEY = "nerf-lipsync-theme";
const LIVE_WITHIN_MS = 60_000;

const STATES = {
  idle: "Idle. Press Start and speak.",
  asking: "Asking for the microphone …",
  waiting: "Waiting for a place …",
  connecting: "Connecting …",
  live: "Live. The face follows your voice.",
  reconnecting: "The connection was lost. Coming back …",
  error: "Stopped.",
};
/** @typedef {keyof typeof STATES} State @typedef {"you" | "assistant" | "room"} Tab */

const button = (/** @type {string} */ id) => /** @type {HTMLButtonElement} */ (element(id));
const checkbox = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));
const video = /** @type {HTMLVideoElement} */ (element("avatar"));
const device = /** @type {HTMLSelectElement} */ (element("device"));
const start = button("start");
const stop = button("stop");
const mute = button("mute");
const talk = button("talk");
const popOutButton = button("pop-out");
const tabs = /** @type {Tab[]} */ (["you", "assistant", "room"]);

/** @type {Call | null} */ let call = null;
/** @type {import("./events.js").TimingEvent | null} */ let timing = null;
/** @type {import("./stats.js").Received | null} */ let received = null;
/** @type {ReceiverStats | null} */ let stats = null;
let tab = /** @type {Tab} */ ("you");
let muted = false;

const invite = takeFragment();
const latency = new LatencyPanel();
const popOut = new PopOut(() => /** @type {MediaStream | null} */ (video.srcObject), problem);
const room = new Room(invite, problem);
const looks = new Looks({
  change: (change) => call?.change(change).then(clearProblem, problem) ?? Promise.resolve(),
  steer: (controls) => call?.steer(controls),
});
const assistant = new Assistant({
  session: liveSession,
  current: () => call?.session?.id ?? null,
  send: (message) => call?.peer?.send(message),
  soundMs: () => (received ? received.soundMs + received.networkMs : 0),
  onProblem: problem,
});

/** @param {State} state @param {string} [text] @param {string} [advice] @param {string} [code] */
function show(state, text, advice, code) {
  const active = state !== "idle" && state !== "error";
  document.body.dataset.state = state;
  const speaks = tab === "assistant" ? { live: "Live. Type what it shall say.", idle: "Idle. Press Start, or Say it." }[String(state)] : null;
  element("state").textContent = text ?? speaks ?? STATES[state];
  advise(advice, code);
  start.disabled = active;
  stop.disabled = !active;
  popOutButton.disabled = state !== "live";
  for (const name of tabs) button(`tab-${name}`).disabled = active && name !== tab;
  if (!active) over();
}

/** @param {string} [advice] @param {string} [code] */
function advise(advice, code) {
  element("advice").textContent = advice ?? "";
  element("advice").hidden = !advice;
  if (code === "token-needed") element("token-form").hidden = false;
}

/** @param {unknown} error something that was asked for cannot be done; the call goes on */
function problem(error) {
  if (error instanceof AdviceError) advise(`${error.message} ${error.advice}`, error.code);
  else advise(String(error));
}

function clearProblem() {
  if (document.body.dataset.state === "live") advise();
}

function begin() {
  if (tab === "room" && !room.room) return advise("Make a room first, or open an invite link.");
  call?.end();
  latency.clear();
  timing = received = null;
  const mine = new Call({
    source: tab === "assistant" ? "speech" : "microphone",
    deviceId: device.value,
    avatar: looks.avatar,
    controls: { ...looks.controls },
    room: tab === "room" ? room.room : null,
    muted: isMuted(),
  }, {
    onState: (state, text, advice, code) => { if (call === mine) onState(state, text, advice, code); },
    onMedia: (stream) => { if (video.srcObject !== stream) { video.srcObject = stream; popOut.update(); } },
    onEvent: (event) => { if (call === mine) onEvent(event); },
    onLevel: showLevel,
  });
  call = mine;
  video.muted = !checkbox("hear").checked;
  void mine.run();
}

/** @type {import("./call.js").CallView["onState"]} */
function onState(state, text, advice, code) {
  show(state, text, advice, code);
  if (state === "connecting") void listMicrophones(device);
  if (state !== "live" || !call?.peer) return;
  stats = new ReceiverStats(call.peer.connection);
}

/** @param {import("./events.js").ServerEvent} event */
function onEvent(event) {
  if (event.type === "timing") timing = event;
  if (event.type === "ready") showRecorded(event.recorded);
  if (event.type === "notice" && event.code.startsWith("recording-")) element("recording").hidden = true;
  if (event.type === "notice" && !event.code.startsWith("peer-")) advise(`${event.message}.`);
  if (event.type === "notice" && event.code === "engine-back") advise();
  assistant.onEvent(event);
  room.onEvent(event);
}

/** @param {boolean} recorded */
function showRecorded(recorded) {
  element("recording").hidden = !recorded;
  element("recorded").textContent = recorded ? "and this call is recorded" : "and is not stored";
}

/** What is left of a call goes. */
function over() {
  element("recording").hidden = true;
  stats = null;
  video.srcObject = null;
  popOut.update();
  showLevel(0);
  assistant.end();
  room.end();
}

function hangUp() {
  call?.end();
  call = null;
  show("idle");
}

/** @returns {Promise<string>} */
function liveSession() {
  if (!call || call.over) begin();
  const mine = call;
  return new Promise((resolve, reject) => {
    const until = performance.now() + LIVE_WITHIN_MS;
    const look = () => {
      if (mine?.live && mine.session) resolve(mine.session.id);
      else if (!mine || mine.over) reject(new AdviceError("There is no call.", element("advice").textContent ?? ""));
      else if (performance.now() > until) reject(new AdviceError("The call has not begun yet.", "Try again when it is live."));
      else setTimeout(look, 50);
    };
    look();
  });
}

/** @param {number} level 0..1 */
function showLevel(level) {
  const percent = String(Math.round(level * 100));
  if (element("meter").getAttribute("aria-valuenow") === percent) return;
  element("level").style.transform = `scaleX(${level})`;
  element("meter").setAttribute("aria-valuenow", percent);
}

function isMuted() {
  return muted || (checkbox("push-to-talk").checked && !talk.classList.contains("held"));
}

function applyMute() {
  mute.setAttribute("aria-pressed", String(muted));
  call?.mute(isMuted());
}

/** @param {boolean} held */
function hold(held) {
  talk.classList.toggle("held", held);
  applyMute();
}

/** @param {Tab} name */
function choose(name) {
  tab = name;
  for (const one of tabs) {
    const mine = one === name;
    button(`tab-${one}`).setAttribute("aria-selected", String(mine));
    button(`tab-${one}`).tabIndex = mine ? 0 : -1;
    element(`panel-${one}`).hidden = !mine;
  }
  const speaks = name === "assistant";
  element("sound").querySelectorAll("label[for=device], #device, label:has(#push-to-talk)")
    .forEach((part) => { /** @type {HTMLElement} */ (part).hidden = speaks; });
  mute.hidden = element("meter").hidden = element("hear-hint").hidden = speaks;
  talk.hidden = speaks || !checkbox("push-to-talk").checked;
  element("hear-hint").hidden = name !== "you";
  element("hear-words").textContent = { you: "Hear my avatar", assistant: "Hear the assistant", room: "Hear the other one" }[name];
  checkbox("hear").checked = name !== "you";
  video.muted = name === "you";
  if (!call || call.over) show("idle");
}

function wireCall() {
  start.addEventListener("click", begin);
  stop.addEventListener("click", () => {
    hangUp();
    start.focus();
  });
  mute.addEventListener("click", () => { muted = !muted; applyMute(); });
  for (const name of ["pointerdown", "pointerup", "pointerleave", "pointercancel"]) {
    talk.addEventListener(name, () => hold(name === "pointerdown"));
  }
  const isField = (/** @type {EventTarget | null} */ target) =>
    target instanceof HTMLElement && target !== talk && target.matches("button, input, select, textarea, [role=slider]");
  addEventListener("keydown", (event) => {
    if (event.code !== "Space" || talk.hidden || isField(event.target)) return;
    event.preventDefault();
    hold(true);
  });
  addEventListener("keyup", (event) => { if (event.code === "Space") hold(false); }); // wherever the focus is by now
  addEventListener("blur", () => hold(false));
  checkbox("push-to-talk").addEventListener("change", () => {
    talk.hidden = !checkbox("push-to-talk").checked;
    hold(false);
  });
  checkbox("hear").addEventListener("change", () => { video.muted = !checkbox("hear").checked; });
  device.addEventListener("change", () => void call?.changeMicrophone(device.value).catch(problem));
  popOutButton.addEventListener("click", () => popOut.open());
}

function wirePage() {
  const tabButtons = tabs.map((name) => button(`tab-${name}`));
  tabs.forEach((name) => button(`tab-${name}`).addEventListener("click", () => choose(name)));
  moveWithArrows(tabButtons, (item) => { if (!(/** @type {HTMLButtonElement} */ (item)).disabled) item.click(); });
  button("test").addEventListener("click", async () => {
    button("test").disabled = true;
    await selfTest(device.value, call?.live ? call.peer?.connection ?? null : null);
    button("test").disabled = false;
  });
  element("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(checkbox("token").value);
    checkbox("token").value = "";
    element("token-form").hidden = true;
    advise();
    void load();
  });
  const theme = /** @type {HTMLSelectElement} */ (element("theme"));
  theme.value = localStorage.getItem(THEME_KEY) ?? "";
  const applyTheme = () => { document.documentElement.dataset.theme = theme.value; };
  theme.addEventListener("change", () => { localStorage.setItem(THEME_KEY, theme.value); applyTheme(); });
  applyTheme();
  addEventListener("pagehide", hangUp); // the browser may keep the page and show it again
  addEventListener("hashchange", () => { // a token or an invite link put into the address of a page that is open
    if (/[#&](token|room)=/.test(location.hash)) location.reload();
  });
  navigator.mediaDevices?.addEventListener("devicechange", () => void listMicrophones(device));
}

async function load() {
  try {
    await Promise.all([looks.load(), assistant.load()]);
  } catch (error) {
    problem(error);
  }
}

async function look() {
  const mine = stats;
  if (!mine || !call?.live) return;
  const seen = await mine.look();
  if (mine !== stats) return;
  received = seen;
  latency.add(seen, timing);
}

wireCall();
wirePage();
choose(invite ? "room" : "you");
show("idle", invite ? "You are invited. Press Start to join." : undefined);
setInterval(() => void look(), LOOK_EVERY_MS);
void listMicrophones(device);
void load();

// For tests and the curious.
Object.defineProperty(globalThis, "avatarConnection", { get: () => call?.peer?.connection ?? null });
Object.defineProperty(globalThis, "avatarCall", { get: () => call });

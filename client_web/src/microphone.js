// The microphone: asking for it, listing what there is, and how loud it is.

import { AdviceError } from "./api.js";

/**
 * Ask for a microphone.
 * @param {string} deviceId empty: the default one
 * @returns {Promise<MediaStream>}
 */
export async function openMicrophone(deviceId) {
  if (!navigator.mediaDevices) {
    throw new AdviceError("This page may not use a microphone.",
      "Browsers allow it on https pages and on localhost only. Open the page as http://127.0.0.1 on the same machine.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { deviceId: deviceId ? { exact: deviceId } : undefined, channelCount: 1 },
    });
  } catch (error) {
    throw adviceFor(/** @type {DOMException} */ (error));
  }
}

/** @param {DOMException} error */
function adviceFor(error) {
  switch (error.name) {
    case "NotAllowedError":
      return new AdviceError("The microphone is blocked.",
        "Allow it in the browser's address bar (the camera or lock symbol), then press Start again.", "microphone-blocked");
    case "NotFoundError":
    case "OverconstrainedError":
      return new AdviceError("No microphone was found.",
        "Plug one in or choose another in the list, then press Start again.", "no-microphone");
    case "NotReadableError":
      return new AdviceError("The microphone cannot be opened.",
        "Another program may be using it. Close that program, then press Start again.", "microphone-taken");
    default:
      return new AdviceError("The microphone cannot be opened.", error.message);
  }
}

/**
 * Fill the list of microphones, keeping the choice.
 * @param {HTMLSelectElement} select
 */
export async function listMicrophones(select) {
  if (!navigator.mediaDevices) return;
  const devices = await navigator.mediaDevices.enumerateDevices();
  const chosen = select.value;
  const options = devices
    .filter((device) => device.kind === "audioinput" && device.deviceId)
    .map((device, index) => new Option(device.label || `Microphone ${index + 1}`, device.deviceId));
  select.replaceChildren(new Option("Default microphone", ""), ...options);
  select.value = options.some((option) => option.value === chosen) ? chosen : "";
}

/** Each change is a new picture of the page: oftener costs a weak machine its video. */
const EVERY_MS = 100;

/**
 * A level meter, or null where the browser makes none: some refuse a microphone of another sample rate than the loudspeakers'.
 * @param {MediaStream} stream @param {(level: number) => void} show as of `LevelMeter`
 */
export function meterOf(stream, show) {
  try {
    return new LevelMeter(stream, show);
  } catch {
    return null; // a call needs none
  }
}

/** Shows how loud a stream is. */
export class LevelMeter {
  /** @param {MediaStream} stream @param {(level: number) => void} show called with 0..1, ten times a second */
  constructor(stream, show) {
    this.context = new AudioContext();
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    try {
      this.context.createMediaStreamSource(stream).connect(this.analyser);
    } catch (error) {
      void this.context.close();
      throw error;
    }
    this.samples = new Float32Array(this.analyser.fftSize);
    this.show = show;
    this.running = true;
    this.timer = 0;
    this.draw();
  }

  draw() {
    if (!this.running) return;
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length;
    const decibels = 10 * Math.log10(power + 1e-9);
    this.show(Math.min(1, Math.max(0, (decibels + 60) / 50)));
    this.timer = setTimeout(() => this.draw(), EVERY_MS);
  }

  close() {
    this.running = false;
    clearTimeout(this.timer);
    this.show(0);
    void this.context.close();
  }
}

// Where the time goes: stages of the server, the receiver's own part, losses; once a second while a call is live.

import { element, make } from "./dom.js";

/** Allowance for capture, Opus and the packet's own length, before the server hears a sample: an estimate. */
const CAPTURE_MS = 25;
const KEPT = 600; // ten minutes
const STAGES = {
  capture: "capture (est.)", network: "network", lookahead: "look-ahead", submit: "hand over", queue: "queue",
  engine: "model", return: "return", pace: "pace", hold: "hold", playout: "browser",
};

/** @typedef {import("./stats.js").Received} Received @typedef {import("./events.js").TimingEvent} Timing */
/** @typedef {{at: string, total_ms: number, algorithmic_ms: number, stages_ms: Record<string, number>,
 *   received: Received, timing: Timing}} Sample */

/** The panel "Latency". Keeps the last ten minutes for export. */
export class LatencyPanel {
  constructor() {
    /** @type {Sample[]} */ this.samples = [];
    this.panel = element("latency");
    this.figures = make("dl", { className: "figures" });
    this.stages = make("table", { className: "stages" });
    this.stages.createCaption().textContent = "Microphone to picture, by stage (medians)";
    const save = make("button", { type: "button", textContent: "Save as JSON", id: "save-latency" });
    save.addEventListener("click", () => this.save());
    this.panel.append(this.figures, this.stages, make("div", { className: "bar" }, save));
    const toggle = element("show-latency");
    toggle.addEventListener("click", () => {
      this.panel.hidden = !this.panel.hidden;
      toggle.setAttribute("aria-expanded", String(!this.panel.hidden));
      this.#show();
    });
    this.#show();
  }

  /** A new call begins. */
  clear() {
    this.samples = [];
    this.#show();
  }

  /** @param {Received} received @param {Timing | null} timing */
  add(received, timing) {
    if (!timing) return;
    const stages_ms = { capture: CAPTURE_MS, network: received.networkMs, ...timing.stages_ms, playout: received.playoutMs };
    const total_ms = CAPTURE_MS + received.networkMs + timing.total_ms + received.playoutMs;
    this.samples.push({
      at: new Date().toISOString(), total_ms, algorithmic_ms: timing.algorithmic_ms, stages_ms, received, timing,
    });
    if (this.samples.length > KEPT) this.samples.shift();
    if (!this.panel.hidden) this.#show();
  }

  /** What the button saves. */
  report() {
    const totals = this.samples.map((sample) => sample.total_ms);
    return {
      p50_ms: quantile(totals, 0.5), p95_ms: quantile(totals, 0.95),
      note: "capture is an estimate; network is half a round trip; playout is the browser's video buffer and decoder",
      samples: this.samples,
    };
  }

  /** Hand the report to the browser's downloads. */
  save() {
    const blob = new Blob([JSON.stringify(this.report(), null, 1)], { type: "application/json" });
    const link = make("a", { href: URL.createObjectURL(blob), download: "latency.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  #show() {
    const last = this.samples.at(-1);
    const totals = this.samples.map((sample) => sample.total_ms);
    const ms = (/** @type {number | null | undefined} */ value) => (value == null ? "–" : `${Math.round(value)} ms`);
    /** @type {[string, string, string][]} */
    const rows = [
      ["p50", "p50", ms(totals.length ? quantile(totals, 0.5) : null)],
      ["p95", "p95", ms(totals.length ? quantile(totals, 0.95) : null)],
      ["algorithmic", "Algorithmic part", ms(last?.algorithmic_ms)],
      ["fps", "Frames a second", last ? mean(this.samples.slice(-5).map((one) => one.received.fps)).toFixed(1) : "–"],
      ["offset", "Picture before sound", ms(last?.received.avOffsetMs)],
      ["drops", "Dropped / repeated", last ? `${last.timing.dropped + last.received.dropped} / ${last.timing.repeated}` : "–"],
      ["concealed", "Sound made up", last ? `${last.timing.concealed} × 20 ms` : "–"],
      ["kbps", "Bit rate", last ? `${Math.round(last.received.kbps)} kbit/s` : "–"],
      ["loss", "Packets lost", last ? `${(100 * last.received.lossShare).toFixed(1)} %` : "–"],
      ["route", "Route", last?.received.route || "–"],
    ];
    this.figures.replaceChildren(...rows.map(([id, name, value]) => make("div", {},
      make("dt", { textContent: name }), make("dd", { textContent: value, id: `latency-${id}` }))));
    this.#showStages();
  }

  #showStages() {
    const medians = Object.entries(STAGES).map(([name, words]) => /** @type {const} */ ([words,
      quantile(this.samples.map((sample) => sample.stages_ms[name] ?? 0), 0.5)]));
    const most = Math.max(1, ...medians.map(([, value]) => value));
    const body = make("tbody", {}, ...medians.map(([words, value]) => make("tr", {},
      make("th", { scope: "row", textContent: words }),
      make("td", {}, make("progress", { max: most, value, ariaLabel: words })),
      make("td", { textContent: `${value.toFixed(1)} ms` }))));
    this.stages.tBodies[0]?.remove();
    this.stages.append(body);
  }
}

/** @param {number[]} values @param {number} share 0..1 @returns {number} 0 if there are none */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? 0;
  return low + ((sorted[Math.ceil(at)] ?? low) - low) * (at - Math.floor(at));
}

/** @param {number[]} values at least one */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

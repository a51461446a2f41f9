// Messages on the data channel `events`; the same as stream_server/events.py.

export const EVENTS_VERSION = 1;

/**
 * @typedef {{type: "ready", session: string, avatar: string, size: number, fps: number,
 *   algorithmic_ms: number, synthetic: boolean, visible_mark: boolean, invisible_mark: boolean, recorded: boolean}} ReadyEvent
 * @typedef {{type: "timing", frame: number, total_ms: number, algorithmic_ms: number,
 *   stages_ms: Record<string, number>, engine_ms: Record<string, number>, fps: number,
 *   repeated: number, dropped: number, concealed: number}} TimingEvent
 * @typedef {{type: "playback.position", frame: number, sample: number, levels_from: number,
 *   levels: number[]}} PositionEvent
 * @typedef {{type: "playback.started", utterance: string, sample: number}} StartedEvent
 * @typedef {{type: "playback.spoken", utterance: string, played_ms: number}} SpokenEvent
 * @typedef {{type: "playback.finished", utterance: string, played_ms: number}} FinishedEvent
 * @typedef {{type: "interrupted", utterance: string, played_ms: number, sample: number}} InterruptedEvent
 * @typedef {{type: "notice", code: string, message: string, utterance?: string | null}} NoticeEvent
 * @typedef {{type: "error", code: string, message: string, fatal: boolean}} ErrorEvent
 * @typedef {ReadyEvent | TimingEvent | PositionEvent | StartedEvent | SpokenEvent | FinishedEvent | InterruptedEvent |
 *   NoticeEvent | ErrorEvent} ServerEvent
 */

/** @type {Record<string, string[]>} */
const FIELDS = {
  ready: ["session", "avatar", "size", "fps", "algorithmic_ms", "synthetic", "visible_mark", "invisible_mark", "recorded"],
  timing: ["frame", "total_ms", "algorithmic_ms", "stages_ms", "engine_ms", "fps", "repeated", "dropped", "concealed"],
  "playback.position": ["frame", "sample", "levels_from", "levels"],
  "playback.started": ["utterance", "sample"],
  "playback.spoken": ["utterance", "played_ms"],
  "playback.finished": ["utterance", "played_ms"],
  interrupted: ["utterance", "played_ms", "sample"],
  notice: ["code", "message"],
  error: ["code", "message", "fatal"],
};

/**
 * Read one message.
 * @param {string} text
 * @returns {ServerEvent | null} null for a type this page does not know (a newer server may send more)
 * @throws {Error} another version, or a field is missing
 */
export function decode(text) {
  const message = JSON.parse(text);
  if (message.v !== EVENTS_VERSION) throw new Error(`event version must be ${EVENTS_VERSION}, got ${message.v}`);
  const fields = FIELDS[message.type];
  if (!fields) return null;
  for (const name of fields) {
    if (!(name in message)) throw new Error(`event ${message.type} lacks ${name}`);
  }
  const { v: _version, ...event } = message;
  return event;
}

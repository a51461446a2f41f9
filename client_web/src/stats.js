// What the receiver measures about itself, from getStats.

/**
 * @typedef {object} Received
 * @property {number} fps decoded frames a second since the last look
 * @property {number} playoutMs mean time in the browser's video jitter buffer and decoder since the last look
 * @property {number} networkMs half a round trip
 * @property {number | null} avOffsetMs video minus audio playout time; positive: the picture is ahead
 */

/** Looks at one connection every so often. */
export class ReceiverStats {
  /** @param {RTCPeerConnection} connection */
  constructor(connection) {
    this.connection = connection;
    this.last = { frames: 0, delay: 0, emitted: 0, decode: 0, time: performance.now() };
  }

  /** @returns {Promise<Received>} */
  async look() {
    const report = await this.connection.getStats();
    /** @type {any} */ let video = {};
    /** @type {any} */ let audio = {};
    let roundTrip = 0;
    report.forEach((entry) => {
      if (entry.type === "inbound-rtp" && entry.kind === "video") video = entry;
      if (entry.type === "inbound-rtp" && entry.kind === "audio") audio = entry;
      if (entry.type === "candidate-pair" && entry.nominated) roundTrip = entry.currentRoundTripTime ?? 0;
    });
    const now = {
      frames: video.framesDecoded ?? 0,
      delay: video.jitterBufferDelay ?? 0,
      emitted: video.jitterBufferEmittedCount ?? 0,
      decode: video.totalDecodeTime ?? 0,
      time: performance.now(),
    };
    const frames = Math.max(1, now.frames - this.last.frames);
    const emitted = Math.max(1, now.emitted - this.last.emitted);
    const received = {
      fps: (1000 * (now.frames - this.last.frames)) / Math.max(1, now.time - this.last.time),
      playoutMs: (1000 * (now.delay - this.last.delay)) / emitted + (1000 * (now.decode - this.last.decode)) / frames,
      networkMs: roundTrip * 500,
      avOffsetMs: avOffset(video, audio),
    };
    this.last = now;
    return received;
  }
}

/** @param {any} video @param {any} audio */
function avOffset(video, audio) {
  if (!video.estimatedPlayoutTimestamp || !audio.estimatedPlayoutTimestamp) return null;
  return video.estimatedPlayoutTimestamp - audio.estimatedPlayoutTimestamp;
}

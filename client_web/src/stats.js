// What the receiver measures about itself, from getStats.

/**
 * @typedef {object} Received
 * @property {number} fps decoded frames a second since the last look
 * @property {number} playoutMs mean time in the browser's video jitter buffer and decoder since the last look
 * @property {number} soundMs mean time in the browser's audio jitter buffer since the last look
 * @property {number} networkMs half a round trip
 * @property {number | null} avOffsetMs video minus audio playout time; positive: the picture is ahead
 * @property {number} kbps picture and sound received since the last look
 * @property {number} lossShare of the packets since the last look, 0..1
 * @property {number} dropped frames since the call began
 * @property {string} route how the media come: "host", "srflx", "prflx" or "relay", and the protocol
 */

/** Looks at one connection every so often. */
export class ReceiverStats {
  /** @param {RTCPeerConnection} connection */
  constructor(connection) {
    this.connection = connection;
    this.last = totals({}, {});
  }

  /** @returns {Promise<Received>} */
  async look() {
    const report = await this.connection.getStats();
    /** @type {any} */ let video = {};
    /** @type {any} */ let audio = {};
    /** @type {any} */ let pair = {};
    report.forEach((entry) => {
      if (entry.type === "inbound-rtp" && entry.kind === "video") video = entry;
      if (entry.type === "inbound-rtp" && entry.kind === "audio") audio = entry;
      if (entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded") pair = entry;
    });
    const now = totals(video, audio);
    const { last } = this;
    const since = (/** @type {keyof typeof now} */ name) => now[name] - last[name];
    const seconds = Math.max(0.001, since("time") / 1000);
    const local = report.get(pair.localCandidateId);
    this.last = now;
    return {
      fps: since("frames") / seconds,
      playoutMs: (1000 * since("delay")) / Math.max(1, since("emitted"))
        + (1000 * since("decode")) / Math.max(1, since("frames")),
      soundMs: (1000 * since("soundDelay")) / Math.max(1, since("soundEmitted")),
      networkMs: (pair.currentRoundTripTime ?? 0) * 500,
      avOffsetMs: avOffset(video, audio),
      kbps: since("bytes") / 125 / seconds,
      lossShare: Math.max(0, since("lost")) / Math.max(1, since("lost") + since("packets")),
      dropped: video.framesDropped ?? 0,
      route: local ? `${local.candidateType}, ${local.protocol}` : "",
    };
  }
}

/** @param {any} video @param {any} audio */
function totals(video, audio) {
  return {
    frames: video.framesDecoded ?? 0,
    delay: video.jitterBufferDelay ?? 0,
    emitted: video.jitterBufferEmittedCount ?? 0,
    decode: video.totalDecodeTime ?? 0,
    soundDelay: audio.jitterBufferDelay ?? 0,
    soundEmitted: audio.jitterBufferEmittedCount ?? 0,
    bytes: (video.bytesReceived ?? 0) + (audio.bytesReceived ?? 0),
    packets: (video.packetsReceived ?? 0) + (audio.packetsReceived ?? 0),
    lost: (video.packetsLost ?? 0) + (audio.packetsLost ?? 0),
    time: video.timestamp ?? performance.timeOrigin + performance.now(),
  };
}

/** @param {any} video @param {any} audio */
function avOffset(video, audio) {
  if (!video.estimatedPlayoutTimestamp || !audio.estimatedPlayoutTimestamp) return null;
  return video.estimatedPlayoutTimestamp - audio.estimatedPlayoutTimestamp;
}

// Injected into the live page by harness.py, after listen.js. Records, on the page's own clock (ms): each shown frame with
// its time code and its open mouth (the share of the mouth box darker than 0.55 of its 90th percentile), and all events.
(async ({ mouthBox, seconds, timecode }) => {
  const { decodeTimecode, stripHeightPx } = await import("/src/timecode.js");
  const call = globalThis.avatarCall;
  const video = document.getElementById("avatar");
  const size = video.videoWidth;
  const out = { size, frames: [], ...globalThis.testHeard, events: [], offsets: [], startMs: performance.now(), endMs: 0 };

  const handle = call.onEvent.bind(call);
  call.onEvent = (event) => { out.events.push({ ...event, atMs: performance.now() }); handle(event); };

  const strip = new OffscreenCanvas(size, stripHeightPx(size)).getContext("2d", { willReadFrequently: true });
  const [x0, y0, x1, y1] = mouthBox.map((edge) => Math.round(edge * size));
  const mouth = new OffscreenCanvas(x1 - x0, y1 - y0).getContext("2d", { willReadFrequently: true });
  const darkness = () => {
    mouth.drawImage(video, x0, y0, x1 - x0, y1 - y0, 0, 0, x1 - x0, y1 - y0);
    const { data } = mouth.getImageData(0, 0, x1 - x0, y1 - y0);
    const luma = new Float32Array(data.length / 4);
    for (let i = 0; i < luma.length; i++) luma[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    const limit = 0.55 * luma.slice().sort()[Math.floor(0.9 * luma.length)]; // typed arrays sort as numbers
    const share = luma.reduce((count, value) => count + (value < limit ? 1 : 0), 0) / luma.length;
    return { dark: share, luma: luma.reduce((sum, value) => sum + value, 0) / luma.length };
  };
  let running = true;
  const look = (now, metadata) => {
    let index = null;
    if (timecode) {
      strip.drawImage(video, 0, 0);
      index = decodeTimecode(strip.getImageData(0, 0, size, stripHeightPx(size)).data, size);
    }
    out.frames.push({ nowMs: now, shownMs: metadata.expectedDisplayTime, mediaTime: metadata.mediaTime, presented: metadata.presentedFrames, index, ...darkness() });
    if (running) video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);

  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const stamps = {};
    (await call.peer.connection.getStats()).forEach((entry) => {
      if (entry.type === "inbound-rtp") stamps[entry.kind] = entry;
    });
    if (stamps.video?.estimatedPlayoutTimestamp && stamps.audio?.estimatedPlayoutTimestamp) {
      out.offsets.push(stamps.video.estimatedPlayoutTimestamp - stamps.audio.estimatedPlayoutTimestamp);
    }
    out.stats = {
      framesDecoded: stamps.video?.framesDecoded, framesDropped: stamps.video?.framesDropped,
      keyFramesDecoded: stamps.video?.keyFramesDecoded, freezeCount: stamps.video?.freezeCount,
      pliCount: stamps.video?.pliCount, jitterBufferDelay: stamps.video?.jitterBufferDelay,
      jitterBufferEmittedCount: stamps.video?.jitterBufferEmittedCount,
      audioJitterBufferDelay: stamps.audio?.jitterBufferDelay,
      audioJitterBufferEmittedCount: stamps.audio?.jitterBufferEmittedCount,
      concealedSamples: stamps.audio?.concealedSamples, totalSamplesReceived: stamps.audio?.totalSamplesReceived,
    };
  }
  running = false;
  out.endMs = performance.now();
  globalThis.testHeard.stop();
  delete out.stop;
  return out;
})

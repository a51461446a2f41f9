// Injected into the live page: from now on notes each shown frame (the page's clock, ms; its time code or null) and, twice
// a second, how far the picture is behind the sound where the browser plays them. `relayWatch()` ends it and tells.
(async () => {
  const { decodeTimecode, stripHeightPx } = await import("/src/timecode.js");
  const video = document.getElementById("avatar");
  const size = video.videoWidth;
  const strip = new OffscreenCanvas(size, stripHeightPx(size)).getContext("2d", { willReadFrequently: true });
  const out = { size, frames: [], offsets: [] };
  let running = true;
  const look = (now) => {
    strip.drawImage(video, 0, 0);
    out.frames.push([now, decodeTimecode(strip.getImageData(0, 0, size, stripHeightPx(size)).data, size)]);
    if (running) video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const timer = setInterval(async () => {
    const played = {};
    (await globalThis.avatarCall.peer.connection.getStats()).forEach((entry) => {
      if (entry.type === "inbound-rtp") played[entry.kind] = entry.estimatedPlayoutTimestamp;
    });
    if (played.video && played.audio) out.offsets.push([performance.now(), played.video - played.audio]);
  }, 500);
  globalThis.relayWatch = () => {
    running = false;
    clearInterval(timer);
    return out;
  };
})

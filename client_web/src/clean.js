// The clean feed: nothing but the picture of the page that opened this window, for OBS and the like.

const video = /** @type {HTMLVideoElement} */ (document.getElementById("feed"));

/** The opener calls this whenever its stream changes. @param {MediaStream | null} stream */
function show(stream) {
  video.srcObject = stream;
}

Object.assign(globalThis, { showFeed: show });
/** @type {any} */ (globalThis.opener)?.feedOpened?.();

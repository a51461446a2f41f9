"""A call in Chromium whose picture is H.264."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

RECEIVES = "RTCRtpReceiver.getCapabilities('video').codecs.some((codec) => codec.mimeType === 'video/H264')"
LOOK = """(async () => {
  const report = await avatarCall.peer.connection.getStats();
  const video = [...report.values()].find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
  return [report.get(video.codecId)?.mimeType, video.framesDecoded, video.framesReceived, video.decoderImplementation];
})()"""
CODES = """(async () => {
  const { decodeTimecode, stripHeightPx } = await import('/src/timecode.js');
  const video = document.getElementById('avatar');
  const size = video.videoWidth;
  const strip = new OffscreenCanvas(size, stripHeightPx(size)).getContext('2d', { willReadFrequently: true });
  const codes = [];
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    strip.drawImage(video, 0, 0);
    codes.push(decodeTimecode(strip.getImageData(0, 0, size, stripHeightPx(size)).data, size));
  }
  return codes;
})()"""


def test_a_call_in_h264(chromium_path: str, microphone: Path) -> None:
    with Chromium(chromium_path, microphone) as browser:
        if not browser.evaluate(RECEIVES):
            pytest.skip("this Chromium was built without H.264")
        with ServerProcess("--timecode", "--encoder", "libx264") as server:
            page.start(browser, server.url)
            codes = [code for code in browser.evaluate(CODES) if code is not None]
            codec, decoded, received, _decoder = browser.evaluate(LOOK)
            page.stop(browser)
    assert codec == "video/H264"
    assert decoded >= 20
    assert received - decoded <= 3
    assert len(codes) >= 15, "time codes are read off the decoded picture"
    assert codes == sorted(codes)

"""Records a call on the page as an animated GIF for the README: the avatar says a typed sentence, with its caption.

`python -m scripts.record_call docs/call.gif` needs Chromium and a synthesiser (flite or espeak-ng). It calls the real
server with the shipped avatar. Pictures keep the times at which they were taken.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.browser.harness import microphone_wav
from tests.stream_server.server_process import ServerProcess
from tests.support.chromium import find_chromium

TEXT = "Hello! I am a face that does not exist. Type, and I will say it."
FRAMES_PER_S = 8.0
WIDTH = 224
COLORS = 28


def record(browser: Chromium, seconds: float) -> tuple[list[Image.Image], list[int]]:
    """Pictures of the stage and how long each is to be shown (ms)."""
    x, y, side = browser.evaluate(
        "(r => [r.x, r.y, r.width])(document.querySelector('.stage').getBoundingClientRect())"
    )
    clip = {"x": x, "y": y, "width": side, "height": side, "scale": WIDTH / side}
    pictures, times = [], []
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        if len(pictures) > now * FRAMES_PER_S:
            time.sleep(0.005)
            continue
        shot = browser.call("Page.captureScreenshot", format="jpeg", quality=90, clip=clip)
        pictures.append(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))
        times.append(now)
    ends = [*times[1:], seconds]
    return pictures, [max(20, round(1000 * (b - a))) for a, b in zip(times, ends, strict=True)]


def save(path: Path, pictures: Sequence[Image.Image], durations_ms: Sequence[int]) -> None:
    """As a GIF with one palette and no dithering, so that what does not change costs nothing."""
    palette = pictures[len(pictures) // 2].quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations_ms), loop=0, optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=4.5)
    parser.add_argument("--text", default=TEXT)
    options = parser.parse_args(argv)
    executable = find_chromium()
    if executable is None:
        parser.error("no Chromium is installed")
    with (
        tempfile.TemporaryDirectory() as folder,
        Chromium(executable, microphone_wav(Path(folder, "microphone.wav"))) as browser,
        ServerProcess("--exact-size", pipeline=None, timeout_s=180) as server,
    ):
        browser.open(server.url)
        browser.wait_for("document.getElementById('voice').options.length > 0")
        page.click(browser, "tab-assistant")
        page.choose(browser, "say", options.text)
        page.click(browser, "say-it")
        page.until_state(browser, "live")
        browser.wait_for("!document.getElementById('caption').hidden", timeout_s=30)
        pictures, durations_ms = record(browser, options.seconds)
        page.stop(browser)
    save(options.file, pictures, durations_ms)
    print(f"{options.file}: {len(pictures)} pictures, {options.file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

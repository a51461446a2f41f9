"""Runs the page in Chromium against a real server and measures what arrives; `benchmarks/bench_browser.py` too."""

from __future__ import annotations

import base64
import json
import os
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess
from tests.support.made_speech import made_speech

GRID_MS = 5.0
_UTTERANCES = 4
_LEAST_ALIGNMENT_R = 0.8


@dataclass(frozen=True)
class Traces:
    """What was heard and seen, on the page's clock."""

    heard_ms: NDArray[np.float64]  # middles of the captured chunks
    level_db: NDArray[np.float64]
    shown_ms: NDArray[np.float64]
    dark: NDArray[np.float64]  # share of the mouth box
    luma: NDArray[np.float64]  # mean of the mouth box, 0..255
    index: NDArray[np.float64]  # each frame's number by its time code, NaN where unread
    sound: NDArray[np.float32]  # as captured, 16 kHz, -1..1; begins 5 ms before the first middle


@dataclass
class Measured:
    """What the browser saw."""

    connect_s: float
    fps: float
    frames_unread: int
    mouth_r: float
    mouth_lag_ms: float
    av_offset_ms: list[float]
    traces: Traces = field(repr=False)
    latency_ms: dict[str, float] = field(default_factory=dict)
    algorithmic_ms: float = 0.0
    server_ms: dict[str, float] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people."""
        worst = max((abs(x) for x in self.av_offset_ms), default=float("nan"))
        return [
            f"connected in {self.connect_s:.2f} s; {self.fps:.2f} fps; {self.frames_unread} time codes unread",
            f"mouth follows speech: r = {self.mouth_r:.3f} at {self.mouth_lag_ms:.0f} ms",
            f"A/V offset: median {np.median(self.av_offset_ms):.1f} ms, worst {worst:.1f} ms",
            f"microphone to frame: p50 {self.latency_ms.get('p50', float('nan')):.0f} ms, "
            f"p95 {self.latency_ms.get('p95', float('nan')):.0f} ms, of it algorithmic {self.algorithmic_ms:.0f} ms "
            f"(capture and media times agree with r = {self.latency_ms.get('alignment_r', float('nan')):.2f})",
            f"in the server (median): {self.server_ms}",
            f"receiver: {self.stats}",
        ]


def microphone_source() -> str:
    """What the microphone plays, in words."""
    return "LibriSpeech utterances" if _utterances() else "a synthetic voice"


def microphone_wav(target: Path) -> Path:
    """48 kHz mono WAV of real speech if the data are at hand, otherwise of a synthetic stand-in."""
    sources = _utterances()
    samples = _read_speech(sources) if sources else _synthetic_speech()
    with wave.open(os.fspath(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target


def call_and_measure(browser: Chromium, server: ServerProcess, *, seconds: float, timecode: bool = True) -> Measured:
    """Open the page, press Start, measure for `seconds`, press Stop."""
    avatar = server.get("/readyz")["avatar"]
    browser.open(server.url)
    browser.evaluate("document.getElementById('start').click()")
    browser.evaluate(f"{_script('listen.js')}()", timeout_s=20)
    connect_s = browser.wait_for("document.body.dataset.state === 'live'", timeout_s=20)
    browser.wait_for("document.getElementById('avatar').videoWidth > 16", timeout_s=10)
    time.sleep(2.0)  # the browser's own buffers settle
    arguments = {"mouthBox": avatar["mouth_box"] or [0.3, 0.55, 0.7, 0.9], "seconds": seconds, "timecode": timecode}
    raw = browser.evaluate(f"{_script('measure.js')}({json.dumps(arguments)})", timeout_s=seconds + 30)
    return analyse(raw, connect_s)


def _script(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


def analyse(raw: dict[str, Any], connect_s: float) -> Measured:
    """Figures from what listen.js and measure.js recorded."""
    frames = raw["frames"]
    duration_s = (frames[-1]["shownMs"] - frames[0]["shownMs"]) / 1e3
    presented = frames[-1]["presented"] - frames[0]["presented"]
    r, lag_ms = _mouth_follows(raw)
    timings = [event for event in raw["events"] if event["type"] == "timing"]
    server_ms: dict[str, float] = {}
    if timings:
        stages = [t["stages_ms"] for t in timings]
        server_ms["lookahead+pace"] = round(float(np.median([s["lookahead"] + s["pace"] for s in stages])), 1)
        for name in ("submit", "queue", "engine", "return", "hold"):
            server_ms[name] = round(float(np.median([s[name] for s in stages])), 1)
        for name in timings[0]["engine_ms"]:
            server_ms[f"engine_{name}"] = round(float(np.median([t["engine_ms"][name] for t in timings])), 1)
        server_ms["total"] = round(float(np.median([t["total_ms"] for t in timings])), 1)
    return Measured(
        connect_s=connect_s,
        fps=presented / duration_s,
        frames_unread=sum(frame["index"] is None for frame in frames),
        mouth_r=r,
        mouth_lag_ms=lag_ms,
        av_offset_ms=[round(x, 1) for x in raw["offsets"]],
        traces=_traces(raw),
        latency_ms=_latency(raw),
        algorithmic_ms=timings[0]["algorithmic_ms"] if timings else 0.0,
        server_ms=server_ms,
        stats=raw.get("stats", {}),
    )


def _traces(raw: dict[str, Any]) -> Traces:
    times, level = _captured(raw)
    shown = np.array([frame["shownMs"] for frame in raw["frames"]])
    dark = np.array([frame["dark"] for frame in raw["frames"]])
    sound = np.frombuffer(b"".join(base64.b64decode(part) for part in raw["sound"]), "<i2")
    index = np.array([np.nan if f["index"] is None else f["index"] for f in raw["frames"]], np.float64)
    luma = np.array([frame["luma"] for frame in raw["frames"]])
    return Traces(times, level, shown, dark, luma, index, sound.astype(np.float32) / 32768.0)


def _captured(raw: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle times (ms, page's clock) and loudness (dB) of the captured sound."""
    levels = np.array(raw["levels"])
    return _steady(levels[:, 0] - levels[:, 1] / 2), np.maximum(levels[:, 2], -60.0)


def _steady(times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chunks are captured evenly but handed over in bunches: the earliest line through their times."""
    index = np.arange(len(times_ms))
    slope = float(np.polyfit(index, times_ms, 1)[0])
    return index * slope + float(np.percentile(times_ms - index * slope, 10))


def _mouth_follows(raw: dict[str, Any]) -> tuple[float, float]:
    traces = _traces(raw)
    times, level, shown, dark = traces.heard_ms, traces.level_db, traces.shown_ms, traces.dark
    grid = np.arange(max(times[0] + 1000, shown[0]), min(times[-1], shown[-1]), GRID_MS)
    mouth = np.interp(grid, shown, dark)
    kernel = np.ones(4) / 4  # 40 ms
    loud = np.convolve(level, kernel, mode="same")  # in dB, as ears count
    best = (-2.0, 0.0)
    for lag_ms in np.arange(0.0, 900.0, GRID_MS):
        r = float(np.corrcoef(mouth, np.interp(grid - lag_ms, times, loud))[0, 1])
        best = max(best, (r, float(lag_ms)))
    return best


def _latency(raw: dict[str, Any]) -> dict[str, float]:
    """Per frame: shown minus captured (its middle). The server's loudness by media position, laid over the page's
    loudness by capture time, tells when media position 0 was captured."""
    heard: dict[int, float] = {}
    for event in raw["events"]:
        if event["type"] == "playback.position":
            heard |= {event["levels_from"] + 320 * i: level for i, level in enumerate(event["levels"])}
    shown = [(f["index"], f["shownMs"]) for f in raw["frames"] if f["index"] is not None]
    if len(heard) < 100 or not shown:
        return {}
    positions = np.array(sorted(heard))
    media_ms = positions / 16.0 + 10.0
    server = np.maximum([heard[p] for p in positions], -60.0)
    times, level = _captured(raw)
    guess = shown[0][1] - shown[0][0] * 40.0  # capture of position 0 lies somewhat before this
    best = (-2.0, 0.0)
    for shift in np.arange(-1500.0, 0.0, 2.0):
        at = media_ms + guess + shift
        inside = (at > times[0]) & (at < times[-1])
        if inside.sum() > 100:
            smooth = np.convolve(level, np.ones(2) / 2, mode="same")
            r = float(np.corrcoef(np.interp(at[inside], times, smooth), server[inside])[0, 1])
            best = max(best, (r, float(shift)))
    if best[0] < _LEAST_ALIGNMENT_R:
        return {"alignment_r": round(best[0], 3)}  # the stream was torn: no figure rather than a wrong one
    origin = guess + best[1]
    latency = np.array([shown_ms - (origin + index * 40.0 + 20.0) for index, shown_ms in shown])
    p50, p95 = np.percentile(latency, (50, 95))
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "alignment_r": round(best[0], 3)}


def _utterances() -> list[Path]:
    data = os.environ.get("NERF_LIPSYNC_DATA")
    return sorted(Path(data, "librispeech").glob("*.flac"))[:_UTTERANCES] if data else []


def _read_speech(paths: list[Path]) -> NDArray[np.float64]:
    """Utterances one after the other, half a second apart, each as loud as the others."""
    parts = []
    for path in paths:
        resampler = av.AudioResampler("s16", "mono", 48_000)
        with av.open(os.fspath(path)) as container:
            frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames]) / 32768
        parts += [samples * 0.08 / np.sqrt((samples**2).mean()), np.zeros(24_000)]
    return np.concatenate(parts)


def _synthetic_speech(seconds: float = 11.0) -> NDArray[np.float64]:
    """Speech-like phrases with pauses, irregular so that a lag is unambiguous."""
    return made_speech(seconds, rate_hz=48_000).astype(np.float64)

"""GRID corpus to features: tracked landmarks, 16 kHz sound, word alignment; one npz per clip, resumable."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.face.landmarks import LandmarkError, fill_gaps, track_face

ALIGN_UNITS_PER_FRAME = 1000
SAMPLE_RATE = 16_000
FPS = 25


@dataclass(frozen=True, slots=True)
class Word:
    """One aligned word; times in frames at 25 fps, fractional."""

    text: str
    start_frame: float
    end_frame: float


@dataclass(frozen=True, slots=True)
class GridClip:
    """One prepared clip."""

    name: str
    landmarks: NDArray[np.float32]  # (T, 478, 3) pixels
    audio: NDArray[np.float32]  # (samples,), -1..1, 16 kHz
    words: tuple[Word, ...]


def read_alignment(path: Path) -> tuple[Word, ...]:
    """Read a GRID `.align` file (start, end, word; 1/1000 frames).

    Raises:
        DataError: A line does not have three fields.
    """
    words = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split()
        if len(fields) != 3:
            raise DataError(f"{path}:{number}: wanted 'start end word', got {line!r}")
        start, end = (int(v) / ALIGN_UNITS_PER_FRAME for v in fields[:2])
        words.append(Word(fields[2], start, end))
    return tuple(words)


def prepare_clip(video: Path, out: Path, task_file: Path) -> str:
    """Track one clip and write its npz; returns "" or why it was left out. Existing files are kept."""
    if out.is_file():
        return ""
    try:
        frames, audio = read_clip(video)
        track = track_face(frames, task_file, fps=FPS)
        landmarks = fill_gaps(track.landmarks)
    except (LandmarkError, DataError) as error:
        return f"{video.name}: {error}"
    align = video.with_suffix(".align")
    text = align.read_text() if align.is_file() else ""
    partial = out.with_name(f".{out.name}.part.npz")
    np.savez_compressed(partial, landmarks=landmarks, audio=audio, align=np.array(text))
    partial.replace(out)
    return ""


def read_clip(video: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.int16]]:
    """All RGB frames and the 16 kHz mono sound of a clip.

    Raises:
        DataError: Not a video with sound.
    """
    try:
        with av.open(str(video)) as container:
            frames = [f.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for f in container.decode(video=0)]
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        parts = []
        with av.open(str(video)) as container:
            for frame in container.decode(audio=0):
                parts += [f.to_ndarray().ravel() for f in resampler.resample(frame)]
        parts += [f.to_ndarray().ravel() for f in resampler.resample(None)]
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{video}: not a readable video with sound ({error})") from error
    return frames, np.concatenate(parts).astype(np.int16)


def prepare_folder(source: Path, out: Path, task_file: Path, *, workers: int = 2) -> list[str]:
    """Prepare every clip of a folder in parallel processes; returns the reasons for clips left out.

    Raises:
        DataError: The folder holds no video.
    """
    videos = sorted(p for p in source.rglob("*") if p.suffix in {".mp4", ".mpg", ".mov"})
    if not videos:
        raise DataError(f"no .mp4, .mpg or .mov below {source}")
    out.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(prepare_clip, v, out / f"{v.stem}.npz", task_file) for v in videos]
        return [reason for job in jobs if (reason := job.result())]


def load_clips(folder: Path) -> list[GridClip]:
    """Read every prepared clip of a folder, by name.

    Raises:
        DataError: None is there.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise DataError(f"no prepared clips in {folder}; run: nerf-lipsync prepare grid SRC --out {folder}")
    return [_load_clip(f) for f in files]


def _load_clip(path: Path) -> GridClip:
    with np.load(path) as data:
        text = str(data["align"])
        landmarks, audio = data["landmarks"], data["audio"].astype(np.float32) / 32768.0
    words = []
    for line in text.splitlines():
        start, end, word = line.split()
        words.append(Word(word, int(start) / ALIGN_UNITS_PER_FRAME, int(end) / ALIGN_UNITS_PER_FRAME))
    return GridClip(path.stem, landmarks, audio, tuple(words))

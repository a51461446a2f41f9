"""Checks a capture folder: `python -m scripts.capture.verify DIR`. Prints one line per fault and a summary."""

from __future__ import annotations

import argparse
import json
import sys
import wave
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from scripts.capture.plan import FPS
from scripts.capture.shapes import Array

SOLID_ALPHA: Final = 127
LEAST_AGREEMENT: Final = 0.985  # share of pixels where alpha and label agree on what is there
INNER_LANDMARKS: Final = slice(36, 68)  # eyes and mouth: always on the head's own pixels but for a profile
LEAST_ON_HEAD: Final = 0.8
PROJECTION_PX: Final = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    faults = list(faults_of(folder))
    for fault in faults:
        print(fault)
    print(f"{folder}: {len(faults)} faults" if faults else f"{folder}: in order")
    return 1 if faults else 0


def faults_of(folder: Path) -> Iterator[str]:
    """What is wrong with a capture, in words."""
    try:
        about = json.loads((folder / "capture.json").read_bytes())
        with np.load(folder / "landmarks.npz") as data:
            points = {name: data[name] for name in data.files}
        frames = about["frames"]
        listed = points["frame_file"].tolist()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        yield f"{folder} is no capture: {error!r}"
        return
    if listed != [frame["file"] for frame in frames]:
        yield f"landmarks.npz has {len(listed)} rows, not those of the {len(frames)} frames in capture.json"
        return
    for row, frame in enumerate(frames):
        yield from (f"{frame['file']}: {fault}" for fault in _frame_faults(folder, about, frame))
        off = _projection_error(about["camera"], frame, points["lm3d"][row], points["lm2d"][row])
        if off > PROJECTION_PX:
            yield f"{frame['file']}: landmarks are {off:.2f} px from where the camera sees them"
    for sequence in about["sequences"]:
        yield from _sound_faults(folder, sequence)


def _frame_faults(folder: Path, about: Mapping[str, Any], frame: Mapping[str, Any]) -> Iterator[str]:
    size = (about["width"], about["height"])
    try:
        with Image.open(folder / frame["file"]) as picture, Image.open(folder / frame["mask"]) as mask:
            colors, labels, mode = np.array(picture), np.array(mask), picture.mode
    except OSError as error:
        yield f"cannot be read ({error})"
        return
    if colors.shape != (*size[::-1], 4) or labels.shape != size[::-1]:
        yield f"picture {colors.shape} in {mode}, mask {labels.shape}; wanted RGBA and labels of {size}"
        return
    if labels.max() > 3:
        yield f"label {labels.max()}; the highest is 3"
    agreement = float(((colors[..., 3] > SOLID_ALPHA) == (labels > 0)).mean())
    if agreement < LEAST_AGREEMENT:
        yield f"alpha and mask agree on {agreement:.1%} of the pixels"
    inner = np.array(frame["landmarks2d"])[INNER_LANDMARKS].astype(int).clip(0, size[0] - 1)
    on_head = float(np.isin(labels[inner[:, 1], inner[:, 0]], (1, 3)).mean())
    if on_head < LEAST_ON_HEAD:
        yield f"{on_head:.0%} of the eye and mouth landmarks lie on the head"
    coefficients = np.array(frame["coeff"])
    if len(coefficients) != len(about["coeff_names"]) or coefficients.min() < 0 or coefficients.max() > 1:
        yield "coefficients are too few, too many or outside 0..1"
    if abs(np.linalg.det(np.array(frame["head_matrix"])[:3, :3]) - 1) > 1e-4:
        yield "head_matrix is no rotation"


def _projection_error(camera: Mapping[str, float], frame: Mapping[str, Any], world: Array, pixels: Array) -> float:
    """By the formula that capture.json states, not by the code that made the points."""
    view = np.linalg.inv(np.array(frame["cam_to_world"]))
    seen = world @ view[:3, :3].T + view[:3, 3]
    u = camera["fx"] * seen[:, 0] / seen[:, 2] + camera["cx"]
    v = camera["fy"] * seen[:, 1] / seen[:, 2] + camera["cy"]
    return float(np.abs(np.stack([u, v], 1) - pixels).max())


def _sound_faults(folder: Path, sequence: Mapping[str, Any]) -> Iterator[str]:
    path = folder / sequence["audio"]
    try:
        with wave.open(str(path)) as file:
            rate, channels, samples = file.getframerate(), file.getnchannels(), file.getnframes()
    except (OSError, wave.Error, EOFError) as error:
        yield f"{path.name}: cannot be read ({error})"
        return
    wanted = sequence["count"] * 16_000 // FPS
    if (rate, channels, samples) != (16_000, 1, wanted):
        yield f"{path.name}: {samples} samples at {rate} Hz in {channels} channels; wanted {wanted} at 16000 Hz in one"


if __name__ == "__main__":
    sys.exit(main())

"""Frames rendered by `scripts.capture` against the same frames of the capture behind the default avatar.

    python benchmarks/bench_capture.py --rendered DIR --reference CAPTURE [--other-seed DIR2] [--json R.json]

Frames that both folders hold are compared: pictures under the reference's head labels, masks pixel by pixel, and every
label. The reference's `train` pictures are stored with loss (quality 99), and so are the rendered ones: together they
cost what `stored_twice_psnr` says, which no renderer can exceed there. The other splits are stored without loss.
DIR2 holds the same frames rendered with another `--seed`: `sampler_noise_psnr` is how far two such renderings differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.results import Figure, new_results, write_results

HEAD_LABELS = (1, 3)
GOAL_DB = 35.0
GOAL_LABELS = 1e-5
GOAL_POINTS = 0.01  # px, the resolution of `landmarks2d`; the npz of the head rounds its shapes to 16 bits
GOAL_MASK_SHARE = 1e-4
EXACT = ("head_matrix", "cam_to_world", "coeff", "gaze", "head_rotvec", "cam_yaw_deg")
CAPTURE_WIDE = ("camera", "coeff_base", "eyes", "neck", "identity_weights")
POINTS = ("lm2d", "lm3d", "lip_outer2d", "lip_outer3d", "lip_inner2d", "lip_inner3d")
NOTHING = 1e-10  # squared error taken for none: 100 dB


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write a results file when asked; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--other-seed", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    figures, frames = compare(args.rendered, args.reference)
    if args.other_seed:
        figures["sampler_noise_psnr"] = sampler_noise(args.rendered, args.other_seed)
    for name, figure in figures.items():
        print(f"{name:32s} {figure.value:12.6g} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    results = new_results(
        figures,
        command="python benchmarks/bench_capture.py --rendered DIR --reference CAPTURE --other-seed DIR2",
        data=f"{len(frames)} frames of the capture behind the default avatar, rendered again: {', '.join(frames)}",
    )
    if args.json:
        write_results(args.json, results)
    return 1 if results.missed else 0


def compare(rendered: Path, reference: Path) -> tuple[dict[str, Figure], list[str]]:
    """Figures and the frames they are of.

    Raises:
        SystemExit: The folders share no frame.
    """
    ours, theirs = _labels(rendered), _labels(reference)
    shared = {f["file"]: f for f in theirs["frames"]}
    pairs = [(f, shared[f["file"]]) for f in ours["frames"] if f["file"] in shared]
    if not pairs:
        raise SystemExit(f"{rendered} and {reference} share no frame")
    figures = _picture_figures(rendered, reference, [f["file"] for f, _ in pairs])
    wide = max(_largest(ours[key], theirs[key]) for key in CAPTURE_WIDE)
    worst = max(_largest([a[k] for k in EXACT], [b[k] for k in EXACT]) for a, b in pairs)
    figures["label_difference_max"] = Figure(
        value=max(wide, worst), unit="own unit", goal=GOAL_LABELS, better="lower", n=len(pairs)
    )
    figures["point_difference_max"] = Figure(
        value=_point_difference(rendered, reference), unit="px or cm", goal=GOAL_POINTS, better="lower"
    )
    return figures, [f["file"] for f, _ in pairs]


def sampler_noise(rendered: Path, other: Path) -> Figure:
    """Mean PSNR of the head between two seeds, over the frames that both hold without loss.

    Raises:
        SystemExit: There are none.
    """
    ours, theirs = _labels(rendered), _labels(other)
    listed = {f["file"] for f in theirs["frames"]}
    shared = [f for f in ours["frames"] if f["file"] in listed and f["split"] != "train"]
    if not shared:
        raise SystemExit(f"{rendered} and {other} share no frame that is stored without loss")
    values = [
        _psnr(
            _colors(_image(rendered / f["file"])),
            _colors(_image(other / f["file"])),
            np.isin(_image(rendered / f["mask"]), HEAD_LABELS),
        )
        for f in shared
    ]
    return Figure(value=float(np.mean(values)), unit="dB", better="higher", n=len(values))


def _picture_figures(rendered: Path, reference: Path, files: Sequence[str]) -> dict[str, Figure]:
    by_split: dict[str, list[float]] = {}
    stored: list[float] = []
    differing = pixels = 0
    for file in files:
        split, name = file.split("/")
        mask = f"mask/{split}/{Path(name).stem}.png"
        labels, own = _image(reference / mask), _image(rendered / mask)
        differing, pixels = differing + int((labels != own).sum()), pixels + labels.size
        head = np.isin(labels, HEAD_LABELS)
        truth = _image(reference / file)
        by_split.setdefault(split, []).append(_psnr(_colors(_image(rendered / file)), _colors(truth), head))
        if split == "train":
            stored.append(_psnr(_colors(_stored_again(truth)), _colors(truth), head))
    figures = {
        f"head_psnr_min_{split}": Figure(value=min(values), unit="dB", goal=GOAL_DB, better="higher", n=len(values))
        for split, values in by_split.items()
    }
    if stored:
        figures["stored_twice_psnr"] = Figure(value=float(np.mean(stored)), unit="dB", better="higher", n=len(stored))
    figures["mask_pixels_differing"] = Figure(
        value=differing / pixels, unit="share", goal=GOAL_MASK_SHARE, better="lower", n=len(files)
    )
    return figures


def _labels(folder: Path) -> dict[str, Any]:
    try:
        labels: dict[str, Any] = json.loads((folder / "capture.json").read_bytes())
    except OSError as error:
        raise SystemExit(f"cannot read {folder / 'capture.json'}: {error.strerror}") from error
    return labels


def _largest(a: Any, b: Any) -> float:
    """Largest difference between the numbers of two nested values of one shape."""
    if isinstance(b, Mapping):
        return max((_largest(a[key], b[key]) for key in b), default=0.0)
    if isinstance(b, list):
        if len(a) != len(b):
            return float("inf")
        return max((_largest(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(b, str):
        return 0.0 if a == b else float("inf")
    return abs(float(a) - float(b))


def _point_difference(rendered: Path, reference: Path) -> float:
    with np.load(rendered / "landmarks.npz") as ours, np.load(reference / "landmarks.npz") as theirs:
        rows = {name: i for i, name in enumerate(theirs["frame_file"].tolist())}
        own = [i for i, name in enumerate(ours["frame_file"].tolist()) if name in rows]
        same = [rows[ours["frame_file"][i]] for i in own]
        return max(float(np.abs(ours[name][own] - theirs[name][same]).max()) for name in POINTS)


def _image(path: Path) -> NDArray[np.uint8]:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise SystemExit(f"missing or damaged picture: {path}")
    return np.asarray(found, np.uint8)


def _stored_again(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture through WebP at quality 99 once more."""
    _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 99])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


def _colors(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Premultiplied colors, 0..1."""
    return np.asarray(picture[..., :3] * (picture[..., 3:] / 255.0) / 255.0)


def _psnr(a: NDArray[np.float64], b: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    return float(-10 * np.log10(max(((a[where] - b[where]) ** 2).mean(), NOTHING)))


if __name__ == "__main__":
    sys.exit(main())

"""Measures what 512 px costs and gains: the field itself at 512, 256 px enlarged by the network, 256 px bilinear.

    python benchmarks/bench_size.py [--json benchmarks/results/size_512.json] [--pictures DIR]

Heads alone, premultiplied RGBA 0..1, against the same field at 512 px marched in four times as many steps. Motion and
pose are drawn with a seed that training does not use. `head`: pixels that the fine rendering covers by more than half;
`mouth` and `eyes`: boxes of the frontal view. Times are medians of processor time per frame, ways by turns, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.avatar import Avatar, load_avatar
from model.radiance.serving import AvatarRenderer
from model.radiance.upscale import Upscaler, enlarge
from model.results import Figure, new_results, write_results
from model.training.upscale import SMALL_PX, drawn_frames, finer

SIZE_PX = 512
SEED = 12_345
FRAMES = 16
TIMED = 15
EYES_ABOVE_MOUTH = 0.225  # of the picture
PICTURED = (0, 3)
Picture = NDArray[np.float32]


def ways(avatar: Avatar) -> dict[str, Callable[..., Picture]]:
    """Ways to a head of 512 px by name: each takes motion and pose."""
    small, large = AvatarRenderer(avatar, size_px=SMALL_PX), AvatarRenderer(avatar, size_px=SIZE_PX)
    upscaler = Upscaler.load()

    def bilinear(*frame: object) -> Picture:
        head = torch.from_numpy(small.render_head(*frame)).permute(2, 0, 1)[None]  # type: ignore[arg-type]
        return np.ascontiguousarray(enlarge(head)[0].permute(1, 2, 0).numpy())

    return {
        "direct": large.render_head,
        "network": lambda *frame: upscaler(small.render_head(*frame)),
        "bilinear": bilinear,
        "small": small.render_head,  # 256 px: what the others are compared with in cost
    }


def boxes(avatar: Avatar) -> dict[str, tuple[slice, slice]]:
    """Mouth and eyes in the frontal view."""
    x0, y0, x1, y1 = avatar.config.mouth_box
    middle, half = (y0 + y1) / 2 - EYES_ABOVE_MOUTH, (y1 - y0) / 4
    shares = {"mouth": (y0, y1, x0, x1), "eyes": (middle - half, middle + half, x0 - 0.05, x1 + 0.05)}
    return {
        name: (slice(round(a * SIZE_PX), round(b * SIZE_PX)), slice(round(c * SIZE_PX), round(d * SIZE_PX)))
        for name, (a, b, c, d) in shares.items()
    }


def psnr(found: Picture, wanted: Picture) -> float:
    """PSNR in dB of values 0..1."""
    return -10 * float(np.log10(np.mean((found - wanted) ** 2) + 1e-10))


def quality(avatar: Avatar, folder: Path | None) -> dict[str, list[float]]:
    """PSNR of each frame by `way.region`; pictures of some frames' mouths and eyes into `folder`."""
    fine, places, values = AvatarRenderer(finer(avatar), size_px=SIZE_PX), boxes(avatar), defaultdict(list)
    makers = {name: way for name, way in ways(avatar).items() if name != "small"}
    for index, frame in enumerate(drawn_frames(FRAMES, SEED)):
        wanted = fine.render_head(*frame).copy()
        made = {name: way(*frame).copy() for name, way in makers.items()}
        covered = wanted[..., 3] > 0.5
        for name, found in made.items():
            values[f"{name}.head"].append(psnr(found[covered], wanted[covered]))
            for place, box in places.items():
                values[f"{name}.{place}"].append(psnr(found[box], wanted[box]))
        if folder is not None and index in PICTURED:
            for place, box in places.items():
                strip = np.concatenate([picture[box][..., :3] for picture in (wanted, *made.values())], 1)
                strip = cv2.resize(strip, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
                cv2.imwrite(
                    str(folder / f"{place}_{index}.png"), np.clip(strip[..., ::-1] * 255, 0, 255).astype(np.uint8)
                )
    return values


def costs(avatar: Avatar) -> dict[str, list[float]]:
    """Milliseconds of processor time per frame by way, and of the network alone."""
    makers, spent = ways(avatar), defaultdict(list)
    upscaler = Upscaler.load()
    for index, frame in enumerate(drawn_frames(TIMED + 2, SEED + 1)):
        small = makers["small"](*frame).copy()
        for name, way in (*makers.items(), ("network_alone", lambda *_, head=small: upscaler(head))):
            start = time.process_time()
            way(*frame)
            if index >= 2:  # warm
                spent[name].append((time.process_time() - start) * 1000)
    return spent


def figures(avatar: Avatar, folder: Path | None) -> dict[str, Figure]:
    """All of them."""
    found = {
        f"{name}.psnr": Figure(
            value=float(np.mean(values)), unit="dB", better="higher", spread=float(np.ptp(values)) / 2, n=len(values)
        )
        for name, values in quality(avatar, folder).items()
    }
    spent = costs(avatar)
    base = float(np.median(spent["small"]))
    for name, values in spent.items():
        found[f"{name}.cpu_ms"] = Figure(
            value=float(np.median(values)), unit="ms", better="lower", spread=float(np.ptp(values)) / 2, n=len(values)
        )
        found[f"{name}.cost_of_256"] = Figure(value=float(np.median(values)) / base, unit="x", better="lower")
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
    found = figures(load_avatar(given.avatar), given.pictures)
    for name, figure in found.items():
        print(f"{name:32s}{figure.value:10.2f} {figure.unit}")
    if given.json is not None:
        data = f"{FRAMES} drawn frames of the default avatar, {TIMED} timed"
        write_results(given.json, new_results(found, command="python benchmarks/bench_size.py", data=data))


if __name__ == "__main__":
    main()

"""Measures avatars made by `create --preset adapt` from one clip of a person whom nothing was trained on.

    nerf-lipsync create SEEN.mp4 --out ADA --preset adapt ...       # its first 55 frames; leaves ADA.work
    nerf-lipsync prepare video WHOLE.mp4 --out WHOLE --pictures     # all 75 frames of the same clip
    python benchmarks/bench_adapt.py --person ada ADA WHOLE --phone PHONE --face-landmarker TASK --identity ONNX

`person`: the frames behind the 55th, which training has not seen, by their own motion, head pose and lens; 256 px, over
the avatar's background. `phone`: an avatar from one clip with a rotation in its metadata and uneven light; its
identity and landmarks at -20 to 20 degrees, as `evaluate views` has them. Beside them stands `standard` on another
GRID speaker (60 clips), from `reconstruction_video.json`: it needs 20 s, which these people's single clips do not have.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.evaluation.capture_stage import CaptureStage
from model.evaluation.filmed_clips import filmed_clips, filmed_stage
from model.evaluation.identity import FaceEmbedder, identity_cosine
from model.evaluation.views_clips import TurnedClips, turned_clip_figures
from model.face.landmarks import fill_gaps, track_face
from model.radiance.serving import AvatarRenderer
from model.results import Figure, new_results, read_results, write_results

SIZE_PX, FPS = 256, 25
STANDARD = Path(__file__).parent / "results" / "reconstruction_video.json"
STANDARD_ROWS = {"psnr_face": "head_psnr", "psnr_mouth": "mouth_psnr", "identity_cosine": "identity"}
Frames = NDArray[np.uint8]


def training_figures(avatar: Path) -> dict[str, Figure]:
    """How long its training took: wall time, processor time, steps."""
    (curve,) = avatar.with_name(avatar.name + ".work").glob("training-*/curve.jsonl")
    last = json.loads(curve.read_text().splitlines()[-1])
    units = {"wall_s": "s", "cpu_s": "s", "step": "steps"}
    return {
        f"training_{name.removesuffix('_s')}": Figure(value=float(last[name]), unit=unit, better="lower")
        for name, unit in units.items()
    }


def psnr(made: Frames, real: Frames, masks: NDArray[np.bool_]) -> list[float]:
    """PSNR of each frame within its mask, dB."""
    errors = (made.astype(np.float64) - real) ** 2
    return [-10 * float(np.log10(e[m].mean() / 255**2)) for e, m in zip(errors, masks, strict=True)]


def box_masks(boxes: NDArray[np.float32], size_px: int) -> NDArray[np.bool_]:
    """(T, S, S) of boxes (T, 4), x0, y0, x1, y1 in pixels."""
    axis = np.arange(size_px) + 0.5
    inside_x = (axis >= boxes[:, :1]) & (axis <= boxes[:, 2:3])
    inside_y = (axis >= boxes[:, 1:2]) & (axis <= boxes[:, 3:4])
    return np.asarray(inside_y[:, :, None] & inside_x[:, None])


def person_figures(avatar: Path, whole: Path, first: int, task: Path, embedder: FaceEmbedder) -> dict[str, Figure]:
    """Head, mouth and identity of the frames from `first` on."""
    renderer = AvatarRenderer(load_avatar(avatar), size_px=SIZE_PX)
    stage = filmed_stage(renderer.avatar.config, avatar.with_name(avatar.name + ".work") / "clips")
    frames, (clip,) = filmed_clips(whole, stage)
    films, rows = CaptureStage(renderer, frames), slice(first, len(clip.motion))
    made, real = films.made(rows, clip.motion[rows]), films.real(rows)
    points = [fill_gaps(track_face(film, task, fps=FPS).landmarks) for film in (made, real)]
    values = {
        "head_psnr": psnr(made, real, films.head(rows)),
        "mouth_psnr": psnr(made, real, box_masks(frames.mouth_box[rows], SIZE_PX)),
        "identity": identity_cosine(embedder, made, points[0], real, points[1]).tolist(),
    }
    return {
        name: Figure(
            value=float(np.mean(found)),
            unit="cosine" if name == "identity" else "dB",
            better="higher",
            spread=float(np.ptp(found)) / 2,
        )
        for name, found in values.items()
    } | training_figures(avatar)


def phone_figures(avatar: Path, task: Path, identity: Path) -> dict[str, Figure]:
    """Identity and landmarks of the turned head."""
    clips = avatar.with_name(avatar.name + ".work") / "clips"
    turned = TurnedClips(prepared=clips, made_from=clips, face_landmarker=task, frames=25, identity=identity)
    figures, _ = turned_clip_figures(turned, AvatarRenderer(load_avatar(avatar), size_px=SIZE_PX))
    return figures | training_figures(avatar)


def standard_figures() -> dict[str, Figure]:
    """`standard` on GRID s1, true motion, from the committed results."""
    known = read_results(STANDARD).figures
    return {new: known[f"reconstruction.true_motion.{old}"] for old, new in STANDARD_ROWS.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--person", nargs=3, action="append", default=[], metavar=("NAME", "AVATAR", "WHOLE"))
    parser.add_argument("--phone", type=Path, help="avatar made from the phone-style clip")
    parser.add_argument("--first", type=int, default=55, help="first frame that was not trained on")
    parser.add_argument("--face-landmarker", type=Path, required=True)
    parser.add_argument("--identity", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    embedder = FaceEmbedder(given.identity)
    found: dict[str, Figure] = {}
    for name, avatar, whole in given.person:
        row = person_figures(Path(avatar), Path(whole), given.first, given.face_landmarker, embedder)
        found |= {f"{name}.{key}": figure for key, figure in row.items()}
    if given.phone is not None:
        row = phone_figures(given.phone, given.face_landmarker, given.identity)
        found |= {f"phone.{key}": figure for key, figure in row.items()}
    found |= {f"standard_s1.{key}": figure for key, figure in standard_figures().items()}
    for name, figure in found.items():
        print(f"{name:40s}{figure.value:10.3f} {figure.unit}")
    if given.json is not None:
        data = f"GRID, one clip each; {given.first} frames trained on, those behind them measured"
        command = "python benchmarks/bench_adapt.py --person NAME AVATAR WHOLE --phone PHONE"
        write_results(given.json, new_results(found, command=command, data=data))


if __name__ == "__main__":
    main()

"""Contact sheet of an avatar: mouth shapes, a blink, brows and head turns, beside the capture where it has the frame.

python scripts/contact_sheet.py OUT.png [--avatar DIR] [--capture DIR --motion M.npz] [--size 256] [--mouth]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.data.capture import Capture, CaptureFrames, load_motion
from model.radiance.camera import HeadPose
from model.radiance.compositor import Background
from model.radiance.serving import AvatarRenderer
from model.training.avatar_export import i420_to_bgr

Picture = NDArray[np.uint8]
TURNS = (
    ("yaw -20", HeadPose(yaw_deg=-20)),
    ("yaw 0", HeadPose()),
    ("yaw +20", HeadPose(yaw_deg=20)),
    ("pitch +10", HeadPose(pitch_deg=10)),
    ("pitch -10", HeadPose(pitch_deg=-10)),
    ("roll +8", HeadPose(roll_deg=8)),
)
DARK, LIGHT = Background(top=(16, 18, 22), bottom=(16, 18, 22)), Background(top=(250, 250, 250), bottom=(250, 250, 250))


class Sheet:
    """Labelled tiles in rows."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self.rows: list[list[Picture]] = [[]]

    def add(self, label: str, picture: Picture) -> None:
        """One tile, enlarged or reduced to the sheet's size."""
        tile = cv2.resize(picture, (self.size_px, self.size_px), interpolation=cv2.INTER_CUBIC)
        cv2.putText(tile, label, (6, self.size_px - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(tile, label, (6, self.size_px - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        self.rows[-1].append(np.asarray(tile, np.uint8))

    def picture(self) -> Picture:
        """All rows, padded to the longest."""
        width = max(len(row) for row in self.rows)
        blank = np.full((self.size_px, self.size_px, 3), 40, np.uint8)
        return np.concatenate([np.concatenate(row + [blank] * (width - len(row)), 1) for row in self.rows if row])


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--avatar", type=Path)
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--motion", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--mouth", action="store_true", help="mouths only, enlarged")
    args = parser.parse_args(argv)
    renderer = AvatarRenderer(load_avatar(args.avatar), size_px=256)
    sheet = Sheet(args.size)
    crop = _mouth_crop(renderer) if args.mouth else None
    if args.capture and args.motion:
        _captured(sheet, renderer, Capture.open(args.capture), load_motion(args.motion), args.cache, crop)
    _turned(sheet, renderer, crop)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if args.out.suffix == ".jpg" else []
    cv2.imwrite(str(args.out), sheet.picture(), quality)
    return 0


def _captured(
    sheet: Sheet,
    renderer: AvatarRenderer,
    capture: Capture,
    motion: NDArray[np.float32],
    cache: Path | None,
    crop: tuple[slice, slice] | None,
) -> None:
    """Held-out sequence frames and acted training frames: capture above, avatar below."""
    for split, kinds in (("sequence", _sequence_rows), ("train", _acted_rows)):
        frames = capture.frames(split, 256, motion, cache)
        entries = [f for f in capture.meta["frames"] if f["split"] == split]
        coefficients = np.array([f["coeff"] for f in entries], np.float32)
        chosen = kinds(frames, coefficients, capture.meta["coeff_names"])
        for source in (True, False):
            sheet.rows.append([])
            for label, i in chosen:
                picture = _truth(frames, i, renderer) if source else _rendered(frames, i, renderer)
                sheet.add(f"{label}{' (capture)' if source else ''}", picture[crop] if crop else picture)


def _sequence_rows(frames: CaptureFrames, coefficients: NDArray[np.float32], names: list[str]) -> list[tuple[str, int]]:
    jaw = coefficients[:, names.index("jawOpen")]
    lids = frames.motion[:, 20:22].max(1)
    awake = np.where(lids < 0.2, jaw, -1)
    rounded = coefficients[:, names.index("mouthPucker")] + coefficients[:, names.index("mouthFunnel")]
    round_mouth = np.where(lids < 0.2, rounded - 0.7 * jaw, -9)
    middle = int(np.argmin(np.abs(awake - 0.5 * awake.max())))
    return [
        ("closed", int(np.argmin(np.where(lids < 0.2, jaw, 9)))),
        ("half open", middle),
        ("open", int(awake.argmax())),
        ("round", int(round_mouth.argmax())),
        ("blink", int(lids.argmax())),
        ("turned", int(np.abs(frames.rotvec[:, 1]).argmax())),
    ]


def _acted_rows(frames: CaptureFrames, coefficients: NDArray[np.float32], names: list[str]) -> list[tuple[str, int]]:
    acted = np.array([kind == "acted" for kind in frames.kind])

    def strongest(name: str) -> int:
        return int(np.where(acted, coefficients[:, names.index(name)], -1).argmax())

    return [
        ("smile", strongest("mouthSmile_L")),
        ("wide open", strongest("jawOpen")),
        ("pucker", strongest("mouthPucker")),
        ("funnel", strongest("mouthFunnel")),
        ("pressed", strongest("mouthPress_L")),
        ("shut eyes", int(frames.motion[:, 20:22].max(1).argmax())),
    ]


def _turned(sheet: Sheet, renderer: AvatarRenderer, crop: tuple[slice, slice] | None) -> None:
    rest = np.zeros(32, np.float32)
    for background in (DARK, LIGHT):
        sheet.rows.append([])
        for label, pose in TURNS:
            picture = i420_to_bgr(renderer.render(rest, pose, background))
            sheet.add(label, picture[crop] if crop else picture)


def _rendered(frames: CaptureFrames, index: int, renderer: AvatarRenderer) -> Picture:
    """The avatar with a captured frame's own motion and head matrix."""
    from model.radiance.camera import cam_to_canonical

    config = renderer.avatar.config
    camera = cam_to_canonical(frames.head_to_world[index], frames.cam_to_world[index], config.space)
    inputs = renderer.conditioner.frame_inputs_for_camera(frames.motion[index], frames.rotvec[index], camera, 256)
    return i420_to_bgr(renderer.composite(renderer.marcher.render(inputs)))


def _truth(frames: CaptureFrames, index: int, renderer: AvatarRenderer) -> Picture:
    rgba = frames.rgba[index].astype(np.float32)
    picture = rgba[..., :3] + (1 - rgba[..., 3:] / 255) * renderer.background.picture(256)
    return np.ascontiguousarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8)[..., ::-1])


def _mouth_crop(renderer: AvatarRenderer) -> tuple[slice, slice]:
    x0, y0, x1, _ = (round(v * 256) for v in renderer.avatar.config.mouth_box)
    return slice(y0 - 6, y0 - 6 + (x1 - x0) + 12), slice(x0 - 6, x1 + 6)


if __name__ == "__main__":
    raise SystemExit(main())

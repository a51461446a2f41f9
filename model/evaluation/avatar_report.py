"""The quality report of an avatar made from video: held-out frames against their rendering, head turns, warnings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.avatar import Avatar, load_avatar
from model.data.features import ClipFeatures, iterate_clips
from model.evaluation.capture_stage import CaptureStage
from model.evaluation.filmed_clips import filmed_clips, filmed_stage
from model.evaluation.image_metrics import box_masks, psnr, ssim
from model.evaluation.reconstruction import through_h264
from model.html_page import html_page, html_table
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer

__all__ = ["AvatarQuality", "measure_avatar", "write_avatar_report"]

SIZE_PX = 256
SWEEP_YAWS_DEG = (-20, -10, 0, 10, 20)
MOST_CLIPS = 4
MOST_FRAMES = 300  # of them all: pictures of a whole long clip take 5.5 MB a frame
SHOWN_PAIRS = 4
TURNED_ENOUGH_DEG = 10.0
DARK_LEVEL = 50.0

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class AvatarQuality:
    """Figures by name with their unit, and pictures: truth beside rendering, worst last."""

    clips: tuple[str, ...]
    held_out: bool
    figures: dict[str, tuple[float, str]]
    pairs: tuple[Frames, ...]
    warnings: tuple[str, ...]


def measure_avatar(avatar_folder: Path, prepared: Path, held_out: Sequence[str]) -> AvatarQuality:
    """True motion, pose and eyes of held-out clips (of trained ones where none were held out) through the avatar."""
    avatar = load_avatar(avatar_folder)
    features = list(iterate_clips(prepared))
    keys = tuple(held_out[:MOST_CLIPS]) or tuple(clip.key for clip in features[-1:])
    frames, clips = filmed_clips(
        prepared, filmed_stage(avatar.config, prepared, held_out), keys, MOST_FRAMES // len(keys)
    )
    stage = CaptureStage(AvatarRenderer(avatar, size_px=SIZE_PX), frames)
    made = np.concatenate([stage.made(clip.rows, clip.motion) for clip in clips])
    real = np.concatenate([stage.real(clip.rows) for clip in clips])
    head = stage.head(slice(None))
    mouth = box_masks(np.rint(frames.mouth_box).astype(np.int64), (SIZE_PX, SIZE_PX))
    face = psnr(made, real, head)
    coded = through_h264(real)
    figures = {
        "face": (float(face.mean()), "dB PSNR"),
        "mouth": (float(psnr(made, real, mouth).mean()), "dB PSNR"),
        "face similarity": (float(ssim(made, real, head).mean()), "SSIM"),
        "face, truth through H.264 (ceiling)": (float(psnr(coded, real, head).mean()), "dB PSNR"),
    }
    order = np.argsort(-face)
    shown = order[np.linspace(0, len(order) - 1, SHOWN_PAIRS).round().astype(int)]
    pairs = tuple(np.concatenate([real[i], made[i]], 1) for i in shown)
    return AvatarQuality(keys, bool(held_out), figures, pairs, warnings_of(features, real, head))


def warnings_of(clips: Sequence[ClipFeatures], real: Frames, head: NDArray[np.bool_]) -> tuple[str, ...]:
    """What the video lacks, and what it costs."""
    yaw = np.concatenate([clip.pose.angles_deg[:, 0] for clip in clips])
    said = []
    low, high = np.percentile(yaw, [1, 99])
    if high < TURNED_ENOUGH_DEG:
        said.append(f"the head never turns more than {high:.0f} degrees to its left: that side is guessed")
    if low > -TURNED_ENOUGH_DEG:
        said.append(f"the head never turns more than {max(0.0, -low):.0f} degrees to its right: that side is guessed")
    level = float(real[head].mean()) if head.any() else 0.0
    if level < DARK_LEVEL:
        said.append(f"the face is dark (mean level {level:.0f} of 255): film with more light")
    return tuple(said)


def write_avatar_report(avatar_folder: Path, quality: AvatarQuality, facts: dict[str, str]) -> Path:
    """`report.html` in the avatar's folder: one file, pictures inside.

    Raises:
        OSError: It cannot be written.
    """
    avatar = load_avatar(avatar_folder)
    path = avatar_folder / "report.html"
    path.write_text(html_page(f"Avatar {avatar.config.name}", _body(avatar, quality, facts)), encoding="utf-8")
    return path


def _body(avatar: Avatar, quality: AvatarQuality, facts: dict[str, str]) -> Iterator[str]:
    which = "held-out clips" if quality.held_out else "a clip that was trained on (none was held out)"
    clips = escape(", ".join(quality.clips))
    yield f"<p>Made of video; synthetic. Measured on {which}: {clips}; true motion and pose.</p>"
    yield from html_table(
        ("measure", "value"), [(name, f"{value:.2f} {unit}") for name, (value, unit) in quality.figures.items()]
    )
    for warning in quality.warnings:
        yield f"<p><strong>Note:</strong> {escape(warning)}.</p>"
    yield "<h2>Truth and rendering, best to worst frame</h2>"
    yield from (_picture(pair) for pair in quality.pairs)
    yield f"<h2>Head turned by {', '.join(f'{y} degrees' for y in SWEEP_YAWS_DEG)}</h2>"
    yield _picture(sweep(avatar))
    yield "<h2>How it was made</h2>"
    yield from html_table(("what", "value"), list(facts.items()))


def sweep(avatar: Avatar) -> Frames:
    """(S, 5 S, 3) RGB: the resting face at `SWEEP_YAWS_DEG`."""
    renderer = AvatarRenderer(avatar, size_px=SIZE_PX)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    views = [
        cv2.cvtColor(renderer.render(motion, HeadPose(yaw_deg=float(yaw))), cv2.COLOR_YUV2RGB_I420)
        for yaw in SWEEP_YAWS_DEG
    ]
    return np.asarray(np.concatenate(views, 1), np.uint8)


def _picture(rgb: Frames) -> str:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f'<p><img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"></p>'

"""Offline video from speech: the serving pipeline hop by hop, into a file that says it is synthetic.

H.264 and AAC in an MP4; before a transparent background ProRes 4444, VP9 or PNG files (`model.video_writing`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.errors import InputError
from model.pipeline import FPS, SAMPLE_RATE, AvatarPipeline
from model.provenance.consent import ConsentPolicy, consent_hash
from model.provenance.credentials import Origin, VideoSigner
from model.provenance.marker import MarkSettings
from model.radiance.compositor import Transparent
from model.state import Controls, HopOutput
from model.video_writing import (
    AUDIO_OUT_HZ,
    Sound,
    check_alpha_output,
    check_file,
    check_opaque_output,
    discard,
    open_writer,
    partial_path,
)

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

Progress = Callable[[int, int], None]
"""(frames done, frames in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What may be asked of a rendering."""

    avatar: Path | None = None
    models: Path | None = None
    whisper: Path | None = None
    size: int = 256
    steps: int = 2
    temperature: float = 0.0
    smoothing: float = 1.0
    views: int = 1
    seed: int = 0
    threads: int = 2
    upscale: bool = False  # heads at half the size, enlarged by a network
    controls: Controls = field(default_factory=Controls)
    poses: Path | None = None
    motion_out: Path | None = None
    marks: MarkSettings | None = field(default_factory=MarkSettings)
    consent_policy: ConsentPolicy | None = None
    signer: VideoSigner | None = None  # of Content Credentials


def render_video(audio: Path, out: Path, options: RenderOptions, progress: Progress | None = None) -> int:
    """Make a video of an avatar saying `audio`; returns the number of frames.

    Raises:
        InputError: The audio or the poses cannot be used, or `out` cannot be written or signed.
    """
    transparent = isinstance(options.controls.background, Transparent)
    _check_outputs(audio, out, options)
    speech = read_audio(audio)
    sound = read_audio(audio, rate_hz=AUDIO_OUT_HZ)
    total = max(1, round(len(speech) / SAMPLES_PER_FRAME))
    poses = read_poses(options.poses, total) if options.poses else None
    pipeline = _load(options)
    partial = partial_path(out, transparent)
    signed = out.with_name(f".{out.name}.signed.mp4")
    try:
        outputs = run_pipeline(pipeline, speech, total, options, poses)
        motion = _write_video(partial, sound, outputs, total, progress)
        if options.signer is not None:
            options.signer.sign(partial, signed, _origin(pipeline))
            signed.replace(partial)
        partial.replace(out)
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"cannot write {out}: {error}") from error
    finally:
        discard(partial)
        discard(signed)
    if options.motion_out:
        _write_motion(options.motion_out, motion)
    return total


def _check_outputs(audio: Path, out: Path, options: RenderOptions) -> None:
    """What cannot be written is said before the rendering, not after it; the sound is never written over."""
    if isinstance(options.controls.background, Transparent):
        check_alpha_output(out)
        if options.signer is not None:
            raise InputError("Content Credentials are signed into MP4 files; leave --sign-cert or --transparent out")
    else:
        check_opaque_output(out)
    if out.exists() and audio.exists() and out.samefile(audio):
        raise InputError(f"--out {out} is the sound itself and would replace it; give another name")
    if options.motion_out:
        check_file(options.motion_out)


def _load(options: RenderOptions) -> AvatarPipeline:
    return AvatarPipeline.load(
        options.avatar,
        models=options.models,
        whisper=options.whisper,
        size=options.size,
        steps=options.steps,
        threads=options.threads,
        temperature=options.temperature,
        smoothing=options.smoothing,
        views=options.views,
        upscale=options.upscale,
        marks=options.marks,
        consent_policy=options.consent_policy,
    )


def run_pipeline(
    pipeline: AvatarPipeline,
    speech: NDArray[np.float32],
    total: int,
    options: RenderOptions,
    poses: NDArray[np.float32] | None = None,
) -> Iterator[HopOutput]:
    """Stream a whole utterance through the pipeline, with silence after its end, until `total` frames are out."""
    state = pipeline.new_state(options.seed)
    hop = pipeline.spec.hop_samples
    done = 0
    start = 0
    while done < total:
        part = speech[start : start + hop]
        part = np.pad(part, (0, hop - len(part)))
        start += hop
        controls = options.controls
        if poses is not None:
            yaw, pitch, roll = poses[min(done, total - 1)]
            controls = replace(controls, yaw_deg=float(yaw), pitch_deg=float(pitch), roll_deg=float(roll))
        output = pipeline.step(part[None], [controls], [state])[0]
        keep = min(len(output.frames), total - done)
        if keep:
            alpha = None if output.alpha is None else output.alpha[:keep]
            yield replace(output, frames=output.frames[:keep], motion=output.motion[:keep], alpha=alpha)
        done += keep


def read_poses(path: Path, total: int) -> NDArray[np.float32]:
    """(total, 3) yaw, pitch, roll in degrees from JSON `[[yaw, pitch, roll], ...]`, the last one held.

    Raises:
        InputError: Not such a list.
    """
    try:
        poses = np.array(json.loads(path.read_text()), np.float32)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read poses from {path}: {error}") from error
    if poses.ndim != 2 or poses.shape[1] != 3 or not len(poses) or not np.isfinite(poses).all():
        raise InputError(f"{path}: poses must be a list of [yaw, pitch, roll] in degrees, got shape {poses.shape}")
    return poses[np.minimum(np.arange(total), len(poses) - 1)]


def _write_video(
    path: Path, sound: Sound, outputs: Iterator[HopOutput], total: int, progress: Progress | None
) -> NDArray[np.float32]:
    """Write a pipeline's outputs; returns their motion (total, 32)."""
    first = next(outputs)
    motions = []
    with open_writer(path, first.frames.shape[2], sound, transparent=first.alpha is not None) as writer:
        for output in chain((first,), outputs):
            for i, frame in enumerate(output.frames):
                writer.write(frame, None if output.alpha is None else output.alpha[i])
            motions.append(output.motion)
            if progress:
                progress(writer.frames, total)
    return np.concatenate(motions)


def _origin(pipeline: AvatarPipeline) -> Origin:
    config = pipeline.renderer.avatar.config
    payload = pipeline.marker.payload if pipeline.marker is not None else None
    return Origin(
        avatar=config.name,
        field_hash=config.field_hash,
        consent_hash=consent_hash(config.consent, config.field_hash),
        licence=config.licence,
        instance=payload.instance if payload is not None else None,
    )


def _write_motion(path: Path, motion: NDArray[np.float32]) -> None:
    from model.motion.space import load_motion_space

    space = load_motion_space()
    try:
        np.savez_compressed(
            path,
            motion=motion,
            arkit=space.to_arkit(motion),
            arkit_names=np.array(space.arkit_names),
            lip_opening=space.lip_opening(motion),
            motion_space=np.array(space.hash),
            fps=np.array(FPS),
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error

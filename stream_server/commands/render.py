"""`nerf-lipsync render`: offline video from speech."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream_server.commands.encoder import Models, Whisper, whisper_path

if TYPE_CHECKING:
    from model.provenance.credentials import VideoSigner
    from model.radiance.compositor import Backdrop, Transparent


UPSCALED_PX = 512


def render(
    audio: Annotated[Path, typer.Option(help="speech: any file that FFmpeg reads")],
    out: Annotated[
        Path, typer.Option(help="MP4 to write (H.264 + AAC); with --transparent .mov, .webm or a new folder")
    ],
    avatar: Annotated[Path | None, typer.Option(help="avatar folder; the shipped one if not given")] = None,
    models: Models = None,
    whisper: Whisper = None,
    size: Annotated[int, typer.Option(min=64, max=512, help="picture size in pixels, even")] = 256,
    heads: Annotated[
        Literal["auto", "direct", "network"],
        typer.Option(
            help="at 512: the field itself, or 256 px enlarged by a network (auto, on processors without AVX2)"
        ),
    ] = "auto",
    yaw: Annotated[float, typer.Option(min=-30, max=30, help="turns the head, degrees; > 0 to its left")] = 0.0,
    pitch: Annotated[float, typer.Option(min=-20, max=20, help="nods the head, degrees; > 0 down")] = 0.0,
    poses: Annotated[
        Path | None, typer.Option(help=r"JSON [\[yaw, pitch, roll], ...], a row per frame, the last one held")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="equal seeds give equal frames")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=50, help="sampler steps per hop")] = 2,
    temperature: Annotated[float, typer.Option(min=0, max=1.5, help="0: mean motion, 1: as varied as people")] = 0.0,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="calms what trembles, closures apart")] = 1.0,
    views: Annotated[int, typer.Option(help="1, 3 or 5: head poses over which motion is aggregated")] = 1,
    mood: Annotated[str, typer.Option(help="neutral, smile, sad, surprised or angry")] = "neutral",
    mood_strength: Annotated[float, typer.Option(min=0, max=1, help="how much of the mood shows")] = 1.0,
    head_motion: Annotated[float, typer.Option(min=0, max=1, help="how much the head nods and tilts to speech")] = 0.5,
    background: Annotated[str, typer.Option(help="own (the avatar's), #rrggbb, or a picture file")] = "own",
    background_blur: Annotated[bool, typer.Option("--background-blur", help="blur the background picture")] = False,
    transparent: Annotated[
        bool, typer.Option("--transparent", help="no background: ProRes 4444 (.mov), VP9 (.webm) or PNG files")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="renderer threads")] = 2,
    no_visible_mark: Annotated[bool, typer.Option("--no-visible-mark", help="leave the label out")] = False,
    mark_text: Annotated[str, typer.Option(help="the label: 1..12 of A-Z, 0-9, space, - and .")] = "AI",
    mark_key: Annotated[
        Path | None, typer.Option(envvar="NERF_LIPSYNC_MARK_KEY", help="file with the invisible mark's key")
    ] = None,
    instance_id: Annotated[
        int | None,
        typer.Option(help="0..16777215, carried by the invisible mark; one drawn per installation if not given"),
    ] = None,
    no_invisible_mark: Annotated[
        bool, typer.Option("--no-invisible-mark", help="leave the invisible mark out")
    ] = False,
    sign_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate chain: sign Content Credentials (with --sign-key)")
    ] = None,
    sign_key: Annotated[Path | None, typer.Option(help="PEM private key of its first certificate")] = None,
    tsa: Annotated[str | None, typer.Option(help="time-stamp server's URL for the credentials")] = None,
    revoked: Annotated[Path | None, typer.Option(envvar="NERF_LIPSYNC_REVOKED", help="revocation list (JSON)")] = None,
    trusted_keys: Annotated[Path | None, typer.Option(help="PEM public keys: signed consent only")] = None,
    motion_out: Annotated[Path | None, typer.Option(help="npz with motion and ARKit coefficients")] = None,
) -> None:
    """Make a video of an avatar saying what is in an audio file."""
    import torch
    from rich.progress import Progress

    from model.errors import InputError
    from model.provenance.consent import ConsentPolicy
    from model.provenance.marker import MarkSettings
    from model.render_video import RenderOptions, render_video
    from model.state import Controls

    torch.set_num_threads(1)  # small layers: more threads only wait for each other
    if size % 2:
        raise InputError(f"--size must be even, got {size}")
    signer = _signer(sign_cert, sign_key, tsa)
    marks = MarkSettings(
        visible=not no_visible_mark,
        text=mark_text,
        instance=mark_instance(instance_id, no_invisible_mark),
        key_file=mark_key,
    )
    options = RenderOptions(
        avatar=avatar,
        models=models,
        whisper=whisper_path(whisper),
        size=size,
        upscale=_upscaled(heads, size),
        steps=steps,
        temperature=temperature,
        smoothing=smoothing,
        views=views,
        seed=seed,
        threads=threads,
        controls=Controls(
            yaw_deg=yaw,
            pitch_deg=pitch,
            mood=mood,
            mood_strength=mood_strength,
            head_motion=head_motion,
            background=_backdrop(background, background_blur, transparent),
        ),
        poses=poses,
        motion_out=motion_out,
        marks=marks,
        consent_policy=ConsentPolicy.read(revoked, trusted_keys),
        signer=signer,
    )
    with Progress(transient=True) as bar:
        task = bar.add_task("rendering", total=None)
        frames = render_video(audio, out, options, lambda done, total: bar.update(task, completed=done, total=total))
    typer.echo(f"{out}: {frames} frames, {size} x {size}, 25 fps")
    typer.echo(
        f"label: {marks.text if marks.visible else 'none'}; "
        f"invisible mark: {'none' if marks.instance is None else f'instance {marks.instance}'}; "
        f"Content Credentials: {'none, metadata only' if signer is None else f'signed by {signer.subject}'}"
    )


def mark_instance(given: int | None, no_mark: bool) -> int | None:
    """What the invisible mark is to carry; None: no mark."""
    from model.errors import InputError
    from model.provenance.installation import installation_id, state_folder

    if no_mark:
        if given is not None:
            raise InputError(f"--instance-id {given} and --no-invisible-mark exclude each other; leave one out")
        return None
    return installation_id(state_folder(os.environ, Path.home())) if given is None else given


def _upscaled(heads: str, size: int) -> bool:
    """Whether heads are rendered at half the size and enlarged."""
    from kernels.native import cpu_info
    from model.errors import InputError
    from model.speech.encoder_graph import best_device

    if heads == "network" and size != UPSCALED_PX:
        raise InputError(
            f"--heads network makes {UPSCALED_PX} px, got --size {size}; leave it out or ask for that size"
        )
    slow = str(best_device()) == "cpu" and cpu_info().best in ("portable", "reference")
    return heads == "network" or (heads == "auto" and size == UPSCALED_PX and slow)


def _backdrop(background: str, blurred: bool, transparent: bool) -> Backdrop | Transparent | None:
    from model.errors import InputError
    from model.radiance.background_files import read_background
    from model.radiance.compositor import Transparent

    if not transparent:
        return read_background(background, blurred=blurred)
    if background != "own" or blurred:
        raise InputError("--transparent has nothing behind the avatar; leave --background and --background-blur out")
    return Transparent()


def _signer(chain: Path | None, key: Path | None, tsa: str | None) -> VideoSigner | None:
    from model.errors import InputError
    from model.provenance.credentials import VideoSigner

    if chain is not None and key is not None:
        return VideoSigner(chain, key, tsa=tsa)
    if chain is not None or key is not None or tsa is not None:
        raise InputError("Content Credentials need both --sign-cert and --sign-key")
    return None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(render)

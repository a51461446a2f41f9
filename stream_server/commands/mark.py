"""`nerf-lipsync mark`: find the invisible mark in a video, and verify its Content Credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def mark() -> None:
    """Marks that say a video is synthetic."""


@app.command()
def detect(
    source: Annotated[str, typer.Argument(help="video file, or http(s) address of one")],
    key: Annotated[
        Path | None, typer.Option(envvar="NERF_LIPSYNC_MARK_KEY", help="file with the key; the public one if not given")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of text")] = False,
) -> None:
    """Look for the mark. Exit code 0: found, 1: none, 2: the source cannot be read."""
    from model.provenance.mark_search import THRESHOLD
    from model.provenance.marker import read_key
    from model.provenance.video_marks import detect_in_video

    found = detect_in_video(source, key=read_key(key))
    payload = found.payload
    if as_json:
        about = {
            "found": payload is not None,
            "instance": None if payload is None else payload.instance,
            "day": None if payload is None else payload.day.isoformat(),
            "score": round(found.score, 2),
            "threshold": THRESHOLD,
            "scale": round(found.scale, 3),
            "mirrored": found.mirrored,
            "bit_error_rate": found.bit_error_rate,
        }
        typer.echo(json.dumps(about))
    elif payload is None:
        typer.echo(f"no mark found (score {found.score:.1f}, needs {THRESHOLD:.1f}); that does not prove it was filmed")
    else:
        typer.echo(
            f"synthetic: made by instance {payload.instance} on {payload.day} "
            f"(score {found.score:.1f}, scale {found.scale:.2f}, {found.bit_error_rate:.1%} of code bits corrected)"
        )
    if payload is None:
        raise typer.Exit(1)


@app.command()
def credentials(
    file: Annotated[Path, typer.Argument(help="MP4 file")],
    anchors: Annotated[Path | None, typer.Option(help="PEM root certificates to trust")] = None,
) -> None:
    """Verify a video's Content Credentials. Exit code 0: whole, 1: none or broken, 2: the file cannot be read."""
    from model.provenance.credentials import read_credentials

    found = read_credentials(file, anchors=anchors)
    if found is None:
        typer.echo(f"{file.name}: no Content Credentials")
        raise typer.Exit(1)
    typer.echo(f"{found.state}: signed by {found.signed_by or 'nobody named'}")
    for problem in found.problems:
        typer.echo(f"problem: {problem}")
    typer.echo(f"source: {found.source_type or 'not stated'}, made by {found.software or 'unnamed software'}")
    for name, value in found.origin.items():
        typer.echo(f"{name}: {value}")
    if found.state == "Invalid":
        raise typer.Exit(1)


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="MP4 file, such as a recording of `serve --record`")],
    sign_cert: Annotated[Path, typer.Option(help="PEM certificate chain, the signer's first")],
    sign_key: Annotated[Path, typer.Option(help="PEM private key of the first certificate")],
    avatar: Annotated[
        Path | None, typer.Option(help="avatar folder that it shows; the shipped one if not given")
    ] = None,
    tsa: Annotated[str | None, typer.Option(help="time-stamp server's URL")] = None,
) -> None:
    """Put Content Credentials into a video that this program made, in its place. Serving processes hold no key."""
    from model.avatar import DEFAULT_AVATAR, read_avatar_config
    from model.provenance.consent import consent_hash
    from model.provenance.credentials import Origin, VideoSigner

    config = read_avatar_config(DEFAULT_AVATAR if avatar is None else avatar)
    origin = Origin(
        avatar=config.name,
        field_hash=config.field_hash,
        consent_hash=consent_hash(config.consent, config.field_hash),
        licence=config.licence,
    )
    signer = VideoSigner(sign_cert, sign_key, tsa=tsa)
    partial = file.with_name(f".{file.name}.signed")
    try:
        signer.sign(file, partial, origin)
        partial.chmod(file.stat().st_mode & 0o777)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    typer.echo(f"{file}: signed by {signer.subject}")


def register(app_: typer.Typer) -> None:
    """Add the group to the application."""
    app_.add_typer(app, name="mark")

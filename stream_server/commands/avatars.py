"""`nerf-lipsync avatars`: the avatars that are installed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from stream_server.avatar_folders import SHIPPED_FOLDER, find_avatars
from stream_server.errors import ServerConfigError


def avatars(
    folder: Annotated[Path, typer.Argument(help="folder of avatar folders")] = SHIPPED_FOLDER,
    show: Annotated[
        str | None, typer.Option(help="an avatar's name or folder: where it comes from, and consent")
    ] = None,
    revoked: Annotated[Path | None, typer.Option(envvar="NERF_LIPSYNC_REVOKED", help="revocation list (JSON)")] = None,
    trusted_keys: Annotated[Path | None, typer.Option(help="PEM public keys: signed consent only")] = None,
) -> None:
    """List the installed avatars, or show one's data, licence, commands, hashes and consent (exit code 1: refused)."""
    if show is not None:
        _show(folder, show, revoked, trusted_keys)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not folder.is_dir():
        raise ServerConfigError(f"no such folder of avatars: {folder}")
    found = find_avatars(folder)
    refused = _refused(folder, list(found), revoked, trusted_keys)
    console = Console(width=None if Console().is_terminal else 160)
    if not found:
        console.print(f"no avatars in {folder}", highlight=False)
        return
    table = Table("name", "licence", "consent", "remarks")
    for name, about in found.items():
        consent = about.get("consent")
        licence = about.get("licence", about.get("license", "not stated"))
        remarks = str(about.get("error", refused.get(name, "")))
        table.add_row(escape(name), escape(str(licence)), _consent(consent), escape(remarks))
    console.print(table)


def _refused(folder: Path, names: list[str], revoked: Path | None, trusted_keys: Path | None) -> dict[str, str]:
    """Why a server with these lists refuses each avatar. It loads the models, so only where there is a list."""
    if revoked is None and trusted_keys is None:
        return {}
    from model.avatar import read_avatar_config
    from model.errors import AvatarError
    from model.provenance.consent import ConsentPolicy, check_consent

    policy = ConsentPolicy.read(revoked, trusted_keys)
    refused = {}
    for name in names:
        try:
            check_consent(read_avatar_config(folder / name), policy)
        except AvatarError as error:
            refused[name] = f"refused: {error}"
    return refused


def _show(folder: Path, name: str, revoked: Path | None, trusted_keys: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from model.avatar_chain import read_chain
    from model.errors import AvatarError
    from model.provenance.consent import ConsentPolicy

    chosen = folder / name if (folder / name).is_dir() else Path(name)
    if not chosen.is_dir():
        known = ", ".join(find_avatars(folder)) or "none"
        raise AvatarError(f"no avatar {name!r}: it is no folder, and {folder} has {known}")
    chain = read_chain(chosen, ConsentPolicy.read(revoked, trusted_keys))
    table = Table("what", "value", "checked", title=chosen.name, show_lines=True)
    checked = {"field", "motion space", "consent hash", "consent"}
    for link in chain:
        verdict = Text(link.problem, "bold red") if link.problem else Text("holds" if link.what in checked else "")
        table.add_row(link.what, Text(link.value), verdict)
    Console(width=None if Console().is_terminal else 120).print(table)
    if any(link.problem for link in chain):
        raise typer.Exit(1)


def _consent(consent: object) -> str:
    from rich.markup import escape

    if isinstance(consent, dict):
        told = escape(", ".join(f"{key}: {value}" for key, value in consent.items()))
        return f"{told} [bold red]expired: the server will refuse it[/]" if _is_over(consent.get("expires")) else told
    return escape(str(consent)) if consent else "[bold red]none: the server will refuse it[/]"


def _is_over(expires: object) -> bool:
    try:
        return isinstance(expires, str) and date.fromisoformat(expires) < datetime.now(UTC).date()
    except ValueError:
        return False


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(avatars)

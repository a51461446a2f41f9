"""Fetch one file over HTTP: whole, with the expected SHA-256, or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO

from model.errors import InputError

__all__ = ["TIMEOUT_S", "FetchError", "fetch_file", "sha256_of"]

TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20


class FetchError(InputError):
    """A file could not be fetched, or is not the one that was expected; nothing is left behind."""


def sha256_of(path: Path) -> str:
    """Hash of a file, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_file(
    url: str,
    target: Path,
    *,
    sha256: str,
    limit_bytes: int,
    timeout_s: float = TIMEOUT_S,
    on_answer: Callable[[], None] | None = None,
) -> None:
    """Download `url` to `target`, whose folder is made if need be.

    `timeout_s` bounds each wait for the network; `on_answer` is called when the transfer begins.

    Raises:
        FetchError: It could not be fetched or stored, is longer than `limit_bytes`, or has another hash.
    """
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            partial = Path(file.name)
            with urllib.request.urlopen(url, timeout=timeout_s) as response:
                if on_answer:
                    on_answer()
                found = _copy(response, file, limit_bytes)
        if found != sha256:
            raise FetchError(f"refused {partial.stat().st_size} bytes with sha256 {found}, deleted them")
        os.replace(partial, target)
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise FetchError(f"cannot download {target.name}: {reason}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _copy(source: IO[bytes], target: IO[bytes], limit_bytes: int) -> str:
    """Copy and hash; one byte more than allowed is read, and no more, so that a longer file fails its hash."""
    digest = hashlib.sha256()
    left = limit_bytes + 1
    while left > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
        digest.update(chunk)
        target.write(chunk)
        left -= len(chunk)
    return digest.hexdigest()

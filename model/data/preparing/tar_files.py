"""Tar files that depend on their members only: same names and bytes in, same bytes out."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.data.preparing.folder import whole_file
from model.errors import DataError

__all__ = ["read_tar", "write_tar"]


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a plain tar, whole or not at all; members in the order given, one in memory at a time.

    GNU format, time 0, owner 0, mode 0644.
    """
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)  # its defaults: time 0, owner 0 without a name, mode 0644
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of a tar's members, in order, read front to back.

    Raises:
        DataError: It is missing, truncated or damaged.
    """
    try:
        with tarfile.open(path, mode="r|") as tar:
            for info in tar:
                file = tar.extractfile(info) if info.isreg() else None
                if file is None:
                    raise DataError(f"{path}: {info.name!r} is not a plain file")
                data = file.read()
                if len(data) != info.size:
                    raise DataError(f"{path} is truncated at {info.name!r}")
                yield info.name, data
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except tarfile.TarError as error:
        raise DataError(f"{path} is truncated or damaged: {error}") from error

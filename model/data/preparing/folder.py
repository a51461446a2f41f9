"""The folder that `prepare` writes: where everything lies in it, whole-or-nothing writes, and the lock.

prepared/
  recipe.json          what the clips are made with: settings, model files, versions, sources
  shard-000000.tar     samples (WebDataset), and beside it
  shard-000000.json    hash, sizes and one record per clip, rejects included
  manifest.json        written when every shard is there
  run.json             clips per minute of each run: the one file that differs between runs
  report.html
  .staging/000000/     outcomes of clips whose shard is not complete yet
  .lock                held by the process that writes here
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model.errors import DataError

__all__ = ["PreparedFolder", "sync_folder", "whole_file", "write_whole"]

PARTIAL_SUFFIX = ".part"


@dataclass(frozen=True, slots=True)
class PreparedFolder:
    """Names of the files in a prepared folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """What the clips are made with."""
        return self.path / "recipe.json"

    @property
    def manifest(self) -> Path:
        """The list of shards; its presence says that the folder is complete."""
        return self.path / "manifest.json"

    @property
    def runs(self) -> Path:
        """Run statistics."""
        return self.path / "run.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def staging(self) -> Path:
        """Parent of the staging folders."""
        return self.path / ".staging"

    def shard(self, number: int) -> Path:
        """The tar of one shard."""
        return self.path / f"shard-{number:06d}.tar"

    def sidecar(self, number: int) -> Path:
        """The JSON beside that tar, written after it."""
        return self.path / f"shard-{number:06d}.json"

    def shard_staging(self, number: int) -> Path:
        """Where the outcomes of one shard's clips wait."""
        return self.staging / f"{number:06d}"

    def staged(self, number: int, key: str) -> Path:
        """The outcome of one clip."""
        return self.shard_staging(number) / f"{key}.tar"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; made first if it is not there. The kernel frees the lock when its holder dies.

        Raises:
            DataError: Another process writes here, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise DataError(
                    f"{self.path} is being written by process {holder}: wait for it, or choose another folder"
                ) from error
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(handle)

    def is_foreign(self) -> bool:
        """Whether it holds files but no recipe: something else than `prepare` made it."""
        ours = {".lock", *(file.name for file in self.path.glob(f".recipe.json.*{PARTIAL_SUFFIX}"))}
        return not self.recipe.exists() and any(file.name not in ours for file in self.path.iterdir())

    def clear_partial(self) -> None:
        """Remove what a killed run left half written. Only under the lock."""
        for file in (*self.path.glob(f".*{PARTIAL_SUFFIX}"), *self.staging.glob(f"*/.*{PARTIAL_SUFFIX}")):
            file.unlink(missing_ok=True)

    def clear_staging(self) -> None:
        """Remove the staging folders."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def clear(self) -> None:
        """Remove what `prepare` wrote, and nothing else; the recipe goes last."""
        self.manifest.unlink(missing_ok=True)
        self.clear_staging()
        self.clear_partial()
        for pattern in ("shard-[0-9]*.tar", "shard-[0-9]*.json"):
            for file in self.path.glob(pattern):
                file.unlink()
        for file in (self.report, self.runs, self.recipe):
            file.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when the block ends, whole or not at all, whatever kills the process.

    Its name until then is random: on shared file systems process ids of two machines may be equal.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

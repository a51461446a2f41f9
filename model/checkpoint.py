"""Weights and their config in one safetensors file, named by a content hash; no pickle anywhere.

The safetensors header's metadata holds `format`, `format_version`, `kind`, `config` (JSON), `content_hash`, `shard`
and the caller's own entries under `meta.`. A checkpoint above `SHARD_LIMIT_BYTES` is split: saving `name.safetensors`
writes `name-00001-of-0000N.safetensors` and so on, and loading `name.safetensors` finds them. Byte tensors
and weights in half precision may be deflated (`model/packed_tensors.py`, `format_version` 2 and 3); the hash is of what
they inflate to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.config import config_from_json, config_to_json
from model.errors import CheckpointError, CheckpointKindError, CheckpointVersionError, ConfigError
from model.packed_tensors import format_of, pack, unpack

__all__ = [
    "FORMAT_VERSION",
    "SHARD_LIMIT_BYTES",
    "Checkpoint",
    "CheckpointInfo",
    "load_checkpoint",
    "read_checkpoint_info",
    "save_checkpoint",
]

FORMAT_NAME = "nerf-lipsync"
FORMAT_VERSION = 3
SHARD_LIMIT_BYTES = 15_000_000
HASH_LENGTH = 16
META_PREFIX = "meta."

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What the header says; read without touching the weights."""

    kind: str
    config_json: str
    content_hash: str
    metadata: Mapping[str, str]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Generic[T]):
    """A loaded checkpoint. Tensors are on the CPU, in their stored types."""

    tensors: dict[str, torch.Tensor]
    config: T
    metadata: Mapping[str, str] = field(default_factory=dict)
    content_hash: str


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    kind: str,
    config: object | None,
    metadata: Mapping[str, str] | None = None,
    shard_limit_bytes: int = SHARD_LIMIT_BYTES,
) -> str:
    """Write a checkpoint and return its content hash (16 hex digits).

    The hash covers kind, config and tensors, not `metadata` (free text such as the training command).
    Files are written beside their place and moved there, so that a reader never sees half of one.

    Raises:
        CheckpointError: The name does not end in `.safetensors`.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(path, "a checkpoint's name must end in .safetensors")
    stored = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    config_json = config_to_json(config)
    digest = _content_hash(kind, config_json, stored)
    packed = pack(stored)
    header = {
        "format": FORMAT_NAME,
        "format_version": str(format_of(packed)),
        "kind": kind,
        "config": config_json,
        "content_hash": digest,
        **{META_PREFIX + key: value for key, value in (metadata or {}).items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    groups = _split(packed, shard_limit_bytes)
    targets = _shard_paths(path, len(groups))
    partial = [target.with_name(f".{target.name}.part") for target in targets]
    for index, (group, file) in enumerate(zip(groups, partial, strict=True)):
        save_file(group, file, metadata={**header, "shard": f"{index + 1}/{len(groups)}"})
    for source, target in zip(partial, targets, strict=True):
        os.replace(source, target)
    for stale in {path, *_find_shards(path)} - set(targets):
        stale.unlink(missing_ok=True)
    return digest


def load_checkpoint(path: Path, *, kind: str, config_cls: type[T]) -> Checkpoint[T]:
    """Read a checkpoint and verify its content hash. Pass `type(None)` where none was stored as config.

    Raises:
        CheckpointKindError: It holds another kind.
        CheckpointVersionError: A newer program wrote it.
        CheckpointError: It is missing, truncated, foreign or altered, or its config does not fit `config_cls`.
    """
    info = read_checkpoint_info(path)
    if info.kind != kind:
        raise CheckpointKindError(path, wanted=kind, found=info.kind)
    tensors: dict[str, torch.Tensor] = {}
    for file in info.files:
        tensors.update(_read_tensors(file))
    found = _content_hash(info.kind, info.config_json, tensors)
    if found != info.content_hash:
        raise CheckpointError(path, f"contents hash to {found}, the header says {info.content_hash}: file was altered")
    try:
        config = config_from_json(config_cls, info.config_json)
    except ConfigError as error:
        raise CheckpointError(path, f"its config does not fit {config_cls.__name__}: {error}") from error
    return Checkpoint(tensors=tensors, config=config, metadata=info.metadata, content_hash=info.content_hash)


def read_checkpoint_info(path: Path) -> CheckpointInfo:
    """Read the header only; raises as `load_checkpoint` does."""
    files = (path,) if path.is_file() else _whole_shards(path)
    if not files:
        raise CheckpointError(path, "no such checkpoint")
    headers = [_read_header(file) for file in files]
    first = headers[0]
    for index, (file, header) in enumerate(zip(files, headers, strict=True)):
        wanted = f"{index + 1}/{len(files)}"
        if header["shard"] != wanted or header["content_hash"] != first["content_hash"]:
            raise CheckpointError(file, f"is shard {header['shard']} of {header['content_hash']}, wanted {wanted}")
    return CheckpointInfo(
        kind=first["kind"],
        config_json=first["config"],
        content_hash=first["content_hash"],
        metadata={k.removeprefix(META_PREFIX): v for k, v in first.items() if k.startswith(META_PREFIX)},
        files=files,
    )


def _read_header(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as handle:
            header: dict[str, str] = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(file, f"is truncated or not a safetensors file ({error})") from error
    if header.get("format") != FORMAT_NAME:
        raise CheckpointError(file, f"is a safetensors file, but not one of ours (format {header.get('format')!r})")
    version = header.get("format_version", "")
    if not version.isdecimal():
        raise CheckpointError(file, f"has the format version {version!r}")
    if int(version) > FORMAT_VERSION:
        raise CheckpointVersionError(file, found=int(version), newest=FORMAT_VERSION)
    missing = [key for key in ("kind", "config", "content_hash", "shard") if key not in header]
    if missing:
        raise CheckpointError(file, f"its header lacks {missing[0]!r}")
    return header


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, framework="pt") as handle:
            stored = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(file, f"is truncated or not a safetensors file ({error})") from error
    try:
        return unpack(stored)
    except ValueError as error:
        raise CheckpointError(file, f"{error}: file was altered") from error


def _content_hash(kind: str, config_json: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(f"{kind}\n{config_json}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}\n{tensor.dtype}\n{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:HASH_LENGTH]


def _split(tensors: Mapping[str, torch.Tensor], limit_bytes: int) -> list[dict[str, torch.Tensor]]:
    """Fill shards in name order; a tensor above the limit gets one of its own."""
    groups: list[dict[str, torch.Tensor]] = [{}]
    used_bytes = 0
    for name, tensor in tensors.items():
        size_bytes = tensor.numel() * tensor.element_size()
        if groups[-1] and used_bytes + size_bytes > limit_bytes:
            groups.append({})
            used_bytes = 0
        groups[-1][name] = tensor
        used_bytes += size_bytes
    return groups


def _shard_paths(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i + 1:05d}-of-{count:05d}.safetensors") for i in range(count)]


def _find_shards(path: Path) -> tuple[Path, ...]:
    pattern = re.compile(re.escape(path.stem) + r"-\d{5}-of-\d{5}\.safetensors")
    if not path.parent.is_dir():
        return ()
    return tuple(sorted(file for file in path.parent.iterdir() if pattern.fullmatch(file.name)))


def _whole_shards(path: Path) -> tuple[Path, ...]:
    """The shards to read: where a save was killed there are two sets, and the newer of those that are whole counts."""
    found = _find_shards(path)
    by_count: dict[int, list[Path]] = {}
    for file in found:
        by_count.setdefault(int(file.stem.rpartition("-of-")[2]), []).append(file)
    whole = [files for count, files in by_count.items() if len(files) == count]
    if len(by_count) < 2 or not whole:
        return found
    return tuple(max(whole, key=lambda files: max(file.stat().st_mtime_ns for file in files)))

"""How the speech corpus lies on disk: parts of about ten minutes, each one safetensors file, and a manifest.

A part holds `audio` (int16, 16 kHz) and `phonemes` (uint8, one per 10 ms) of its items end to end; what each item is
stands as JSON in the file's own metadata. Reading never unpickles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.errors import DataError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REVOICED = "-revoiced"
"""Ends the voice's name where a filmed clip speaks in somebody else's."""
RETIMED = "-retimed"
"""Ends the voice's name where a synthetic voice says a filmed clip's words in the clip's own time."""
Kind = Literal["spoken", "filmed", "noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemInfo:
    """What an item is. `key` names the filmed clip whose sound it is, as recorded or in another's voice."""

    kind: Kind
    voice: str
    language: str = ""
    text: str = ""
    key: str = ""
    samples: int
    columns: int


@dataclass(frozen=True, slots=True)
class CorpusItem:
    """One stretch of sound."""

    info: ItemInfo
    audio: NDArray[np.int16]  # (samples,) 16 kHz
    phonemes: NDArray[np.uint8]  # (columns,) index into PHONEMES for each 10 ms

    @property
    def sound(self) -> NDArray[np.float32]:
        """The audio as -1..1."""
        return self.audio.astype(np.float32) / 32768.0


def make_item(
    audio: NDArray[np.float32],
    phonemes: NDArray[np.integer],
    *,
    kind: Kind,
    voice: str,
    language: str = "",
    text: str = "",
    key: str = "",
) -> CorpusItem:
    """An item of float audio (-1..1; what is louder is clipped, as a recorder would)."""
    stored = np.rint(np.clip(audio, -1.0, 32767 / 32768) * 32768).astype(np.int16)
    info = ItemInfo(
        kind=kind,
        voice=voice,
        language=language,
        text=text,
        key=key,
        samples=len(stored),
        columns=len(phonemes),
    )
    return CorpusItem(info, stored, phonemes.astype(np.uint8))


def write_part(path: Path, items: Sequence[CorpusItem]) -> None:
    """Write a part whole or not at all."""
    if not items:
        raise DataError(f"{path.name}: a part of the corpus needs at least one item")
    tensors = {
        "audio": np.concatenate([i.audio for i in items]),
        "phonemes": np.concatenate([i.phonemes for i in items]),
    }
    metadata = {"version": str(SCHEMA_VERSION), "items": json.dumps([asdict(i.info) for i in items])}
    partial = path.with_name(f".{path.name}.part")
    save_file(tensors, partial, metadata=metadata)
    os.replace(partial, path)


def read_part(path: Path) -> list[CorpusItem]:
    """Items of a part.

    Raises:
        DataError: It is missing, damaged, foreign, or of a newer schema.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if int(metadata["version"]) > SCHEMA_VERSION:
                raise DataError(f"{path} has schema {metadata['version']}, this program reads up to {SCHEMA_VERSION}")
            infos = [ItemInfo(**entry) for entry in json.loads(metadata["items"])]
            audio, phonemes = file.get_tensor("audio"), file.get_tensor("phonemes")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataError(f"{path} is not a part of a speech corpus ({error!r}); make it again") from error
    samples = np.cumsum([0, *(i.samples for i in infos)])
    columns = np.cumsum([0, *(i.columns for i in infos)])
    if samples[-1] != len(audio) or columns[-1] != len(phonemes):
        raise DataError(f"{path} holds {len(audio)} samples, its list names {samples[-1]}; make it again")
    return [
        CorpusItem(info, audio[samples[i] : samples[i + 1]], phonemes[columns[i] : columns[i + 1]])
        for i, info in enumerate(infos)
    ]


def read_corpus(folder: Path) -> Iterator[CorpusItem]:
    """All items of a finished corpus, part by part.

    Raises:
        DataError: The corpus is not there, not finished, or damaged.
    """
    for name in read_manifest(folder)["parts"]:
        yield from read_part(folder / name)


def read_manifest(folder: Path) -> dict[str, dict[str, object]]:
    """The manifest of a finished corpus."""
    path = folder / MANIFEST
    try:
        content: dict[str, dict[str, object]] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"no finished speech corpus in {folder}; run: nerf-lipsync prepare voices") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged ({error}); run: nerf-lipsync prepare voices") from error
    return content

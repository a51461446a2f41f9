"""Finds the model files of other makers that face analysis needs: given by path, kept in a folder, or fetched once.

A download is accepted only with the SHA-256 pinned here. Nothing is asked of the network when a path is given or the
file is already in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import InputError
from model.fetching import TIMEOUT_S, FetchError, fetch_file, sha256_of

__all__ = [
    "FACE_LANDMARKER",
    "SELFIE_MULTICLASS",
    "ModelFile",
    "ModelFileError",
    "default_cache",
    "find_model_file",
    "sha256_of",
]


class ModelFileError(InputError):
    """A model file is missing, damaged, or could not be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One foreign model file: where it comes from and how it is recognised."""

    name: str  # file name in the cache folder
    url: str
    sha256: str  # lower-case hexadecimal
    size_bytes: int
    licence: str
    option: str  # how a user names a copy of it, for messages
    variable: str  # environment variable that the command line reads, for messages


FACE_LANDMARKER = ModelFile(
    name="face_landmarker.task",
    url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size_bytes=3_758_596,
    licence="Apache-2.0",
    option="--face-landmarker",
    variable="NERF_LIPSYNC_FACE_LANDMARKER",
)
SELFIE_MULTICLASS = ModelFile(
    name="selfie_multiclass_256x256.tflite",
    url=(
        "https://storage.googleapis.com/mediapipe-models/image_segmenter/"
        "selfie_multiclass_256x256/float32/1/selfie_multiclass_256x256.tflite"
    ),
    sha256="c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
    size_bytes=16_371_837,
    licence="Apache-2.0",
    option="--segmenter",
    variable="NERF_LIPSYNC_SEGMENTER",
)


def default_cache(environment: Mapping[str, str], home: Path) -> Path:
    """Folder for fetched files: `nerf-lipsync` below `$XDG_CACHE_HOME`, else below `home`/.cache.

    The environment is handed in: only the command line reads it. A relative `XDG_CACHE_HOME` is ignored, as the XDG
    Base Directory specification asks.
    """
    given = environment.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else home / ".cache"
    return base / "nerf-lipsync"


def find_model_file(
    spec: ModelFile, given: Path | None, *, cache: Path, download: bool, timeout_s: float = TIMEOUT_S
) -> Path:
    """Path of a usable copy of `spec`.

    A given path is taken as it is, whatever its hash (record `sha256_of` it): another version may be meant. Then comes
    `cache`, then one try to download into it, if `download`.

    Raises:
        ModelFileError: The given path is no file; the kept or fetched file has another hash (a fetched one is
            deleted); nothing is there and it could not, or should not, be fetched.
    """
    if given is not None:
        if not given.is_file():
            raise ModelFileError(f"{spec.option}: no such file: {given}; {_remedy(spec)}")
        return given
    kept = cache / spec.name
    if kept.is_file():
        found = sha256_of(kept)
        if found != spec.sha256:
            raise ModelFileError(f"{kept} has sha256 {found}, not {spec.sha256}: delete it, or give {spec.option} FILE")
        return kept
    if not download:
        raise ModelFileError(f"{spec.name} is not in {cache} and downloading is off; {_remedy(spec)}")
    try:
        fetch_file(spec.url, kept, sha256=spec.sha256, limit_bytes=spec.size_bytes, timeout_s=timeout_s)
    except FetchError as error:
        raise ModelFileError(f"{error}; {_remedy(spec)}") from error
    return kept


def _remedy(spec: ModelFile) -> str:
    return (
        f"get {spec.url} (sha256 {spec.sha256}, {spec.size_bytes} bytes, {spec.licence}) "
        f"and give it by {spec.option} FILE or {spec.variable}"
    )

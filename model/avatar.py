"""An avatar folder: what it is, who agreed to it, and the arrays that render it.

avatar.json         AvatarConfig: sizes, camera, motion-space hash, provenance, licence, consent
field.safetensors   planes, layers, warp bases, occupancy, torso (model/radiance/export.py)
idle.safetensors    the person's own idle motion (model/motion/own_idle.py), if made from video
preview.jpg         a picture
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import config_from_json, config_to_dict, config_to_json
from model.errors import AvatarError, CheckpointError, ConfigError
from model.provenance.consent import Consent, ConsentPolicy, check_consent
from model.radiance.camera import CameraConfig, CanonicalSpace, HeadPose, NeckConfig
from model.radiance.compositor import Background
from model.radiance.config import FieldConfig

__all__ = [
    "DEFAULT_AVATAR",
    "FORMAT_VERSION",
    "Avatar",
    "AvatarConfig",
    "Consent",
    "describe",
    "load_avatar",
    "read_avatar_config",
    "write_avatar_config",
]

FORMAT_VERSION = 1
FIELD_KIND = "radiance-field"
DEFAULT_AVATAR = Path(__file__).parent / "assets" / "avatars" / "default"
RETRAIN = "train it again: nerf-lipsync train avatar"


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarConfig:
    """avatar.json."""

    format_version: int
    name: str
    licence: str
    consent: Consent
    provenance: str
    motion_space: str  # hash of the motion space it was trained with
    field_hash: str  # content hash of field.safetensors
    camera: CameraConfig
    mouth_box: tuple[float, float, float, float]  # x0, y0, x1, y1 as shares of the frontal view
    rest_pose: HeadPose = field(default_factory=HeadPose)
    neck: NeckConfig = field(default_factory=NeckConfig)
    space: CanonicalSpace = field(default_factory=CanonicalSpace)
    background: Background = field(default_factory=Background)
    field_config: FieldConfig = field(default_factory=FieldConfig)
    consent_hash: str = ""  # of the consent and field_hash; "" in avatars of before scope and expiry
    consent_signature: str = ""  # Ed25519 over consent_hash, hexadecimal
    commands: tuple[str, ...] = ()  # that made it, paths left out


@dataclass(frozen=True)
class Avatar:
    """A loaded avatar: config and NumPy arrays by name. Read-only; sessions share it."""

    folder: Path
    config: AvatarConfig
    arrays: dict[str, NDArray[np.generic]]


def load_avatar(
    path: Path | str | None = None, *, motion_space: str | None = None, policy: ConsentPolicy | None = None
) -> Avatar:
    """Load an avatar folder (the shipped one by default) and check it.

    Args:
        motion_space: Hash of the motion space at hand; another one in the avatar is an error. None: unchecked.
        policy: The operator's revocation list and trusted keys.

    Raises:
        AvatarError: The folder or a file is missing, damaged, altered, lacks valid consent, or needs another
            motion space.
    """
    folder = DEFAULT_AVATAR if path is None else Path(path)
    config = read_avatar_config(folder)
    check_consent(config, policy)
    if motion_space is not None and config.motion_space != motion_space:
        raise AvatarError(
            f"avatar {config.name} was trained with motion space {config.motion_space}, "
            f"installed is {motion_space}; {RETRAIN}"
        )
    return Avatar(folder, config, _read_field(folder, config))


def read_avatar_config(folder: Path) -> AvatarConfig:
    """Read avatar.json alone.

    Raises:
        AvatarError: No such folder, or the file is missing, not JSON, or from a newer program.
    """
    path = folder / "avatar.json"
    if not folder.is_dir():
        raise AvatarError(f"no avatar folder at {folder}")
    try:
        config = config_from_json(AvatarConfig, path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AvatarError(f"{folder} is not an avatar: it has no avatar.json") from error
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise AvatarError(f"cannot read {path}: {error}") from error
    if config.format_version > FORMAT_VERSION:
        raise AvatarError(
            f"{path} has format version {config.format_version}, this program reads up to {FORMAT_VERSION}"
        )
    return config


def write_avatar_config(folder: Path, config: AvatarConfig) -> None:
    """Write avatar.json, readable by people."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(config_to_json(config)), indent=2, ensure_ascii=False)
    (folder / "avatar.json").write_text(text + "\n", encoding="utf-8")


def describe(avatar: Avatar) -> dict[str, object]:
    """What a client may know about an avatar: name, licence, consent, sizes."""
    config = avatar.config
    return {
        "name": config.name,
        "licence": config.licence,
        "consent": config_to_dict(config.consent),
        "provenance": config.provenance,
        "motion_space": config.motion_space,
        "mouth_box": list(config.mouth_box),
        "size_bytes": sum(file.stat().st_size for file in avatar.folder.iterdir() if file.is_file()),
    }


def _read_field(folder: Path, config: AvatarConfig) -> dict[str, NDArray[np.generic]]:
    from model.checkpoint import load_checkpoint

    try:
        stored = load_checkpoint(folder / "field.safetensors", kind=FIELD_KIND, config_cls=FieldConfig)
    except CheckpointError as error:
        raise AvatarError(f"avatar {config.name}: {error}") from error
    if stored.content_hash != config.field_hash:
        raise AvatarError(
            f"avatar {config.name}: field.safetensors is {stored.content_hash}, "
            f"avatar.json names {config.field_hash}; {RETRAIN}"
        )
    if stored.config != config.field_config:
        raise AvatarError(f"avatar {config.name}: avatar.json and field.safetensors disagree on the field's sizes")
    return {name: tensor.numpy() for name, tensor in stored.tensors.items()}

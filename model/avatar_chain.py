"""Where an avatar comes from: data, licence, commands, hashes and consent, and whether all of it still holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.avatar import FIELD_KIND, AvatarConfig, read_avatar_config
from model.errors import AvatarError, CheckpointError
from model.provenance.consent import ConsentPolicy, check_consent, consent_hash
from model.radiance.config import FieldConfig

__all__ = ["ChainLink", "read_chain"]

Check = Callable[[], str]


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One line of an avatar's provenance. `problem` says what does not hold, "" where all is well."""

    what: str
    value: str
    problem: str = ""


def read_chain(folder: Path, policy: ConsentPolicy | None = None) -> tuple[ChainLink, ...]:
    """The chain of an avatar folder; every hash is computed again from what it is about.

    Raises:
        AvatarError: No such folder, or its avatar.json cannot be read.
    """
    config = read_avatar_config(folder)
    consent = config.consent
    computed = consent_hash(consent, config.field_hash)
    return (
        ChainLink("name", config.name),
        ChainLink("data", config.provenance),
        ChainLink("licence", config.licence),
        *(ChainLink("command", command) for command in config.commands or ("not recorded",)),
        ChainLink("field", config.field_hash, _field_problem(folder, config)),
        ChainLink("motion space", config.motion_space, _motion_problem(config)),
        ChainLink("person", consent.person),
        ChainLink("statement", consent.statement),
        ChainLink("given by", consent.given_by),
        ChainLink("given on", consent.date),
        ChainLink("scope", consent.scope or "not limited"),
        ChainLink("expires", consent.expires or "never"),
        ChainLink("consent hash", computed, _hash_problem(config.consent_hash, computed)),
        ChainLink("signature", config.consent_signature or "none"),
        _verdict(config, policy),
    )


def _field_problem(folder: Path, config: AvatarConfig) -> str:
    from model.checkpoint import load_checkpoint

    try:
        found = load_checkpoint(folder / "field.safetensors", kind=FIELD_KIND, config_cls=FieldConfig).content_hash
    except CheckpointError as error:
        return str(error)
    return "" if found == config.field_hash else f"field.safetensors is {found}"


def _motion_problem(config: AvatarConfig) -> str:
    from model.motion.space import load_motion_space

    installed = load_motion_space().hash
    return "" if installed == config.motion_space else f"installed is {installed}"


def _hash_problem(stored: str, computed: str) -> str:
    return "" if stored in ("", computed) else f"avatar.json names {stored}: the consent was edited"


def _verdict(config: AvatarConfig, policy: ConsentPolicy | None) -> ChainLink:
    try:
        check_consent(config, policy)
    except AvatarError as error:
        return ChainLink("consent", "refused", str(error))
    return ChainLink("consent", "valid")

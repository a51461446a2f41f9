"""Consent to an avatar: who is shown, who agreed, for what, until when; bound to the avatar, signed, revocable.

`consent_hash` is SHA-256 over the consent's fields and the avatar's field hash. It is unkeyed: it shows that a file was
edited by accident or carelessly, and no more, as a forger can compute it anew. A signature (Ed25519, RFC 8032) over
the hash, checked against keys that the operator trusts, is what a forger cannot make.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

from model.errors import AvatarError, InputError

__all__ = [
    "Consent",
    "ConsentPolicy",
    "Consented",
    "check_consent",
    "consent_hash",
    "read_revoked",
    "read_trusted_keys",
    "sign_consent",
    "validate_consent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Who is shown, who agreed and when; what for; until when (ISO dates; that last day still counts)."""

    person: str
    statement: str
    given_by: str
    date: str
    scope: str = ""
    expires: str | None = None


class Consented(Protocol):
    """What of `model.avatar.AvatarConfig` is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def consent(self) -> Consent: ...
    @property
    def field_hash(self) -> str: ...
    @property
    def consent_hash(self) -> str: ...
    @property
    def consent_signature(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPolicy:
    """What an operator adds: hashes (of consents or fields) no longer served, and public keys (raw, 32 bytes).

    With `trusted_keys` every avatar must bear a signature by one of them; with none, signatures are not looked at.
    """

    revoked: frozenset[str] = frozenset()
    trusted_keys: tuple[bytes, ...] = ()

    @classmethod
    def read(cls, revoked: Path | None, trusted_keys: Path | None) -> ConsentPolicy:
        """From the operator's files; None where there is none.

        Raises:
            InputError: A file cannot be read or says something else.
        """
        return cls(
            revoked=frozenset() if revoked is None else read_revoked(revoked),
            trusted_keys=() if trusted_keys is None else read_trusted_keys(trusted_keys),
        )


def consent_hash(consent: Consent, field_hash: str) -> str:
    """SHA-256, hexadecimal, over the consent's fields and the avatar they are about."""
    text = json.dumps({"consent": asdict(consent), "field": field_hash}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def validate_consent(consent: Consent) -> None:
    """Check that a consent says what it has to.

    Raises:
        AvatarError: Person, statement or giver is empty, a date is not ISO, or the expiry is before the date.
    """
    for name in ("person", "statement", "given_by"):
        if not getattr(consent, name).strip():
            raise AvatarError(f"consent: {name} is empty; it must say who is shown, what was agreed, and by whom")
    given = _iso_date("date", consent.date)
    if consent.expires is not None and _iso_date("expires", consent.expires) < given:
        raise AvatarError(f"consent: it expires on {consent.expires}, before it was given on {consent.date}")


def check_consent(config: Consented, policy: ConsentPolicy | None = None, today: date | None = None) -> None:
    """Refuse an avatar whose consent is missing, not yet given, expired, edited, revoked or (with trusted keys) forged.

    An avatar of before these checks has no hash; it passes if it has neither scope nor expiry nor signature either.

    Raises:
        AvatarError: It must not be used; the message says why.
    """
    policy = policy or ConsentPolicy()
    today = today or datetime.now(UTC).date()
    consent, who = config.consent, f"avatar {config.name}"
    if not (consent.person.strip() and consent.statement.strip()):
        raise AvatarError(f"{who} has no consent statement in its avatar.json")
    try:
        validate_consent(consent)
    except AvatarError as error:
        raise AvatarError(f"{who}: {error}") from error
    actual = consent_hash(consent, config.field_hash)
    newer = bool(consent.scope or consent.expires or config.consent_signature)
    if config.consent_hash != actual and (config.consent_hash or newer):
        raise AvatarError(
            f"{who}: its consent was edited: it has hash {actual[:16]}, avatar.json names "
            f"{config.consent_hash[:16] or 'none'}; ask {consent.given_by} for the original"
        )
    if policy.revoked & {actual, config.field_hash}:
        raise AvatarError(f"{who}: its consent was revoked (the operator's list has {actual[:16]} or its field hash)")
    if date.fromisoformat(consent.date) > today:
        raise AvatarError(f"{who}: its consent is dated {consent.date}, and today is {today}")
    if consent.expires is not None and date.fromisoformat(consent.expires) < today:
        raise AvatarError(f"{who}: its consent expired on {consent.expires}; ask {consent.given_by} to renew it")
    if policy.trusted_keys:
        _check_signature(who, actual, config.consent_signature, policy.trusted_keys)


def sign_consent(digest: str, private_key: Path) -> str:
    """Ed25519 signature, hexadecimal, of a consent hash by a PEM private key without a passphrase.

    Raises:
        InputError: The file is not such a key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read a private key from {private_key}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{private_key} is not an Ed25519 key; make one: openssl genpkey -algorithm ed25519")
    return key.sign(digest.encode()).hex()


def read_trusted_keys(path: Path) -> tuple[bytes, ...]:
    """Public Ed25519 keys of a file of PEM blocks, as 32 bytes each.

    Raises:
        InputError: The file cannot be read, holds no key, or one of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    end = b"-----END PUBLIC KEY-----"
    keys = []
    try:
        for block in path.read_bytes().split(end)[:-1]:
            key = load_pem_public_key(block.strip() + b"\n" + end + b"\n")
            if not isinstance(key, Ed25519PublicKey):
                raise InputError(f"{path}: every key must be Ed25519, got {type(key).__name__}")
            keys.append(key.public_bytes_raw())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read public keys from {path}: {error}") from error
    if not keys:
        raise InputError(f"{path} holds no public key (PEM, -----BEGIN PUBLIC KEY-----)")
    return tuple(keys)


def read_revoked(path: Path) -> frozenset[str]:
    """The revocation list: JSON `{"revoked": [hash, ...]}`, of consents (64 hex digits) or avatar fields (16).

    Raises:
        InputError: The file cannot be read, or is not such a list.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the revocation list {path}: {error}") from error
    hashes = value.get("revoked") if isinstance(value, Mapping) and set(value) == {"revoked"} else None
    if not isinstance(hashes, list):
        raise InputError(f'{path}: a revocation list is {{"revoked": [HASH, ...]}}, got {str(value)[:60]}')
    for item in hashes:
        if not isinstance(item, str) or len(item) not in (16, 64) or set(item) - set("0123456789abcdef"):
            raise InputError(f"{path}: a revoked hash has 64 or 16 small hexadecimal digits, got {item!r}")
    return frozenset(hashes)


def _check_signature(who: str, digest: str, signature: str, keys: tuple[bytes, ...]) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not signature:
        raise AvatarError(f"{who}: its consent is not signed, and this operator trusts signed ones only")
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature), digest.encode())
        except (InvalidSignature, ValueError):
            continue
        return
    raise AvatarError(f"{who}: its consent's signature is forged, or by none of the {len(keys)} trusted keys")


def _iso_date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise AvatarError(f"consent: {name} must be an ISO date such as 2026-11-22, got {text!r}") from error

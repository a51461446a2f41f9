"""Consent that is edited, expired, revoked or forged is refused."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model.avatar import DEFAULT_AVATAR, AvatarConfig, read_avatar_config
from model.errors import AvatarError, InputError
from model.provenance.consent import ConsentPolicy, check_consent, consent_hash, read_revoked, sign_consent

TODAY = date(2026, 12, 1)


def with_consent(**values: object) -> AvatarConfig:
    config = read_avatar_config(DEFAULT_AVATAR)
    consent = dataclasses.replace(config.consent, **values)  # type: ignore[arg-type]
    return dataclasses.replace(config, consent=consent, consent_hash=consent_hash(consent, config.field_hash))


def test_the_shipped_avatar_passes_and_has_a_hash() -> None:
    config = read_avatar_config(DEFAULT_AVATAR)
    check_consent(config, today=TODAY)
    assert config.consent_hash == consent_hash(config.consent, config.field_hash)


def test_expiry() -> None:
    check_consent(with_consent(expires="2026-12-01"), today=TODAY)
    with pytest.raises(AvatarError, match="expired on 2026-11-30"):
        check_consent(with_consent(expires="2026-11-30"), today=TODAY)


def test_edited_consent_is_refused_even_without_its_hash() -> None:
    config = with_consent(expires="2026-12-01")
    later = dataclasses.replace(config, consent=dataclasses.replace(config.consent, expires="2036-12-01"))
    for edited in (later, dataclasses.replace(later, consent_hash="")):
        with pytest.raises(AvatarError, match="edited"):
            check_consent(edited, today=TODAY)


@pytest.mark.parametrize("values", [{"date": "soon"}, {"expires": "2020-01-01"}, {"given_by": " "}, {"person": ""}])
def test_consent_that_says_too_little_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(AvatarError):
        check_consent(with_consent(**values), today=TODAY)


def test_revoked_by_either_hash() -> None:
    config = with_consent()
    for digest in (config.consent_hash, config.field_hash):
        with pytest.raises(AvatarError, match="revoked"):
            check_consent(config, ConsentPolicy(revoked=frozenset([digest])), TODAY)


@pytest.mark.parametrize("value", [[], {"revoked": "x"}, {"revoked": ["ABC"]}, {"revoke": []}])
def test_a_bad_revocation_list_is_an_error(tmp_path: Path, value: object) -> None:
    (tmp_path / "list.json").write_text(json.dumps(value))
    with pytest.raises(InputError):
        read_revoked(tmp_path / "list.json")


def test_signature_of_a_trusted_key_only(tmp_path: Path) -> None:
    files = []
    for name in ("trusted", "forger"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.key").write_bytes(private)
        (tmp_path / f"{name}.pub").write_bytes(public)
        files.append(tmp_path / f"{name}.key")
    policy = ConsentPolicy.read(None, tmp_path / "trusted.pub")
    config = with_consent(scope="tests")
    signed = [dataclasses.replace(config, consent_signature=sign_consent(config.consent_hash, f)) for f in files]
    check_consent(signed[0], policy, TODAY)
    with pytest.raises(AvatarError, match="forged"):
        check_consent(signed[1], policy, TODAY)
    with pytest.raises(AvatarError, match="not signed"):
        check_consent(config, policy, TODAY)

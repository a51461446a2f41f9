"""`avatars --show`: the chain of an avatar, and what in it no longer holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.avatar import DEFAULT_AVATAR
from model.avatar_chain import read_chain
from stream_server.cli import main


@pytest.fixture
def avatar(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_AVATAR, tmp_path / "ann"))


def edit(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "avatar.json").read_text())
    (folder / "avatar.json").write_text(json.dumps(about | changes))


def problems(folder: Path) -> dict[str, str]:
    return {link.what: link.problem for link in read_chain(folder) if link.problem}


def test_the_shipped_avatar_holds() -> None:
    chain = read_chain(DEFAULT_AVATAR)
    assert not any(link.problem for link in chain)
    values = {link.what: link.value for link in chain}
    about = json.loads((DEFAULT_AVATAR / "avatar.json").read_text())
    assert values["field"] == about["field_hash"]
    assert values["consent hash"] == about["consent_hash"]
    assert values["command"].startswith("nerf-lipsync train avatar")
    assert values["consent"] == "valid"


def test_edited_consent_is_named(avatar: Path) -> None:
    consent = json.loads((avatar / "avatar.json").read_text())["consent"]
    edit(avatar, consent=consent | {"scope": "everything"})
    found = problems(avatar)
    assert "the consent was edited" in found["consent hash"]
    assert "was edited" in found["consent"]


def test_expired_consent_is_named(avatar: Path) -> None:
    consent = json.loads((avatar / "avatar.json").read_text())["consent"]
    edit(avatar, consent=consent | {"expires": "2026-11-23"}, consent_hash="")
    assert "consent" in problems(avatar)


def test_another_field_and_motion_space_are_named(avatar: Path) -> None:
    edit(avatar, field_hash="0123456789abcdef", motion_space="fedcba9876543210")
    found = problems(avatar)
    assert found["field"] == "field.safetensors is 57c57e002a083115"
    assert found["motion space"].startswith("installed is ")
    assert "edited" in found["consent hash"]  # the consent was for the other field
    data = bytearray((avatar / "field.safetensors").read_bytes())
    data[-9] ^= 1
    (avatar / "field.safetensors").write_bytes(data)
    assert "file was altered" in problems(avatar)["field"]


def test_the_command_shows_it_and_tells_refusal_by_its_exit_code(
    avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["avatars", str(tmp_path), "--show", "ann"]) == 0
    said = capsys.readouterr().out
    for text in ("ICT-FaceKit", "57c57e002a083115", "person does not exist", "valid"):
        assert text in said
    revoked = tmp_path / "revoked.json"
    revoked.write_text('{"revoked": ["57c57e002a083115"]}')
    assert main(["avatars", "--show", str(avatar), "--revoked", str(revoked)]) == 1
    assert "revoked" in capsys.readouterr().out
    assert main(["avatars", str(tmp_path), "--show", "bob"]) == 2
    assert "ann" in capsys.readouterr().err
    assert main(["avatars", str(tmp_path)]) == 0
    assert "revoked" not in capsys.readouterr().out
    assert main(["avatars", str(tmp_path), "--revoked", str(revoked)]) == 0  # the list said nothing of it
    assert "refused" in capsys.readouterr().out
    assert main(["avatars", str(tmp_path), "--revoked", str(tmp_path / "none.json")]) == 2
    assert "cannot read the revocation list" in capsys.readouterr().err

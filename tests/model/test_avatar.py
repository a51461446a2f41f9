"""Avatar folders: the shipped one, round trip, and each way a folder can be wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from model.avatar import (
    FIELD_KIND,
    FORMAT_VERSION,
    AvatarConfig,
    Consent,
    describe,
    load_avatar,
    read_avatar_config,
    write_avatar_config,
)
from model.checkpoint import save_checkpoint
from model.errors import AvatarError
from model.radiance.camera import CameraConfig
from model.radiance.config import FieldConfig

ROWS = ((1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, -1.0, 72.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sizes = FieldConfig(resolution=8)
    digest = save_checkpoint(
        tmp_path / "field.safetensors", {"planes": torch.zeros(3, 8, 8, 16)}, kind=FIELD_KIND, config=sizes
    )
    config = AvatarConfig(
        format_version=FORMAT_VERSION,
        name="test",
        licence="none",
        consent=Consent(person="nobody", statement="invented", given_by="test", date="2026-01-01"),
        provenance="zeros",
        motion_space="abc",
        field_hash=digest,
        camera=CameraConfig(size_px=32, fx_px=60, fy_px=60, cx_px=16, cy_px=16, cam_to_world=ROWS),
        mouth_box=(0.4, 0.6, 0.6, 0.7),
        field_config=sizes,
    )
    write_avatar_config(tmp_path, config)
    return tmp_path


def change(folder: Path, **values: object) -> None:
    write_avatar_config(folder, dataclasses.replace(read_avatar_config(folder), **values))  # type: ignore[arg-type]


def test_round_trip(folder: Path) -> None:
    avatar = load_avatar(folder, motion_space="abc")
    assert avatar.config == read_avatar_config(folder)
    assert avatar.arrays["planes"].shape == (3, 8, 8, 16)
    about = describe(avatar)
    assert about["name"] == "test"
    assert about["consent"] == {
        "person": "nobody", "statement": "invented", "given_by": "test", "date": "2026-01-01",
        "scope": "", "expires": None,
    }  # fmt: skip


def test_missing_folder_and_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="no avatar folder"):
        load_avatar(tmp_path / "none")
    with pytest.raises(AvatarError, match=r"no avatar\.json"):
        load_avatar(tmp_path)


def test_damaged_json(folder: Path) -> None:
    (folder / "avatar.json").write_text("{")
    with pytest.raises(AvatarError, match="cannot read"):
        load_avatar(folder)


def test_unknown_key(folder: Path) -> None:
    text = (folder / "avatar.json").read_text()
    (folder / "avatar.json").write_text(text.replace('"name"', '"nickname"'))
    with pytest.raises(AvatarError, match="nickname"):
        load_avatar(folder)


def test_newer_format(folder: Path) -> None:
    change(folder, format_version=FORMAT_VERSION + 1)
    with pytest.raises(AvatarError, match="format version"):
        load_avatar(folder)


def test_missing_and_truncated_field(folder: Path) -> None:
    file = folder / "field.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AvatarError, match="truncated"):
        load_avatar(folder)
    file.unlink()
    with pytest.raises(AvatarError, match="no such checkpoint"):
        load_avatar(folder)


def test_another_field_than_named(folder: Path) -> None:
    change(folder, field_hash="0" * 16)
    with pytest.raises(AvatarError, match=r"names 0000"):
        load_avatar(folder)


def test_another_motion_space(folder: Path) -> None:
    with pytest.raises(AvatarError, match="motion space abc, installed is def"):
        load_avatar(folder, motion_space="def")


def test_no_consent(folder: Path) -> None:
    change(folder, consent=Consent(person="", statement="", given_by="", date=""))
    with pytest.raises(AvatarError, match="consent"):
        load_avatar(folder)


def test_shipped_avatar_is_complete_and_small() -> None:
    avatar = load_avatar()
    assert avatar.config.consent.person == "person does not exist"
    size_bytes = sum(file.stat().st_size for file in avatar.folder.iterdir())
    assert size_bytes < 8_000_000

"""The installation's id: drawn once, kept for the user alone, the same for all programs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from model.errors import InputError
from model.provenance.installation import FILE_NAME, installation_id, state_folder


def test_it_is_drawn_once_and_kept_for_the_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    first = installation_id(folder)
    assert 0 <= first < 1 << 24
    assert installation_id(folder) == first
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_installations_differ(tmp_path: Path) -> None:
    assert len({installation_id(tmp_path / str(i)) for i in range(8)}) > 4


@pytest.mark.parametrize("text", ["", "red", "-1", "16777216", "é"])
def test_anything_else_in_the_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="--no-invisible-mark"):
        installation_id(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep the installation's id"):
        installation_id(tmp_path / "file" / "state")


def test_the_folder_follows_the_environment(tmp_path: Path) -> None:
    assert state_folder({}, Path("/home/x")) == Path("/home/x/.local/state/nerf-lipsync")
    assert state_folder({"XDG_STATE_HOME": str(tmp_path)}, Path("/home/x")) == tmp_path / "nerf-lipsync"
    assert state_folder({"XDG_STATE_HOME": "state"}, Path("/home/x")) == Path("/home/x/.local/state/nerf-lipsync")

"""`nerf-lipsync head-model`."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from model.errors import InputError
from model.face.head_models import load_head_model
from stream_server.commands import head_model
from tests.support.small_head import official_arrays, official_embedding


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    head_model.register(app)
    return CliRunner().invoke(app, ["head-model", *arguments])


def test_licensed_files_come_together_in_one_folder(tmp_path: Path) -> None:
    arrays = official_arrays("flame")
    (tmp_path / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(arrays))
    face, corners = official_embedding((51,), len(arrays["f"]), np.random.default_rng(0))
    static = {"lmk_face_idx": face, "lmk_b_coords": corners}
    (tmp_path / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static))
    out = str(tmp_path / "head")
    first = run("--convert", str(tmp_path / "flame_static_embedding.pkl"), "--out", out)
    assert first.exit_code == 0
    assert "landmark embeddings only so far" in first.output
    second = run("--convert", str(tmp_path / "FLAME_NEUTRAL.pkl"), "--out", out)
    assert "head.npz" in second.output
    assert "flame, 400 vertices, 300 identity and 100 expression coefficients; landmarks: ibug51" in second.output


def test_the_licence_free_head(data_folder: Path, tmp_path: Path) -> None:
    done = run("--ict", str(data_folder / "ict_facekit" / "ict_facekit.npz"), "--out", str(tmp_path / "head"))
    assert done.exit_code == 0, done.output
    assert "MIT" in done.output
    assert load_head_model(tmp_path / "head").landmark_sets == ("mediapipe", "ibug51", "ibug68")


@pytest.mark.parametrize("options", [[], ["--ict", "a", "--convert", "b"]])
def test_one_source_and_only_one(options: list[str], tmp_path: Path) -> None:
    failure = run(*options, "--out", str(tmp_path)).exception
    assert isinstance(failure, InputError)
    assert "give either --ict PATH or --convert FILE" in str(failure)

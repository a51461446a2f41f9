"""Licensed files are converted without running anything that they ask for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.errors import DataError, InputError
from model.face import foreign_models
from model.face.foreign_models import convert_file
from model.face.head_models import HeadModel, load_head_model
from tests.support.closeness import assert_close
from tests.support.small_head import Chumpy, Sparse, official_arrays, official_embedding, python2_pickle


def write_flame(folder: Path) -> dict[str, Any]:
    """FLAME's three files as their owner writes them; returns the arrays."""
    arrays = official_arrays("flame")
    old = {
        **arrays,
        "v_template": Chumpy(arrays["v_template"]),
        "shapedirs": Chumpy(arrays["shapedirs"]),
        "J_regressor": Sparse(arrays["J_regressor"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    (folder / "FLAME_NEUTRAL.pkl").write_bytes(python2_pickle(old))
    rng = np.random.default_rng(3)
    face, corners = official_embedding((51,), len(arrays["f"]), rng)
    static = python2_pickle({"lmk_face_idx": face.astype(np.uint32), "lmk_b_coords": corners})
    (folder / "flame_static_embedding.pkl").write_bytes(static)
    moving, moving_corners = official_embedding((79, 17), len(arrays["f"]), rng)
    table: Any = {"lmk_face_idx": moving, "lmk_b_coords": moving_corners}
    np.save(folder / "flame_dynamic_embedding.npy", table, allow_pickle=True)
    media, media_corners = official_embedding((105,), len(arrays["f"]), rng)
    np.savez(
        folder / "mediapipe_landmark_embedding.npz",
        lmk_face_idx=media,
        lmk_b_coords=media_corners,
        landmark_indices=rng.permutation(468)[:105],
    )
    return {**arrays, "static": (face, corners), "media": (media, media_corners)}


def test_official_flame_files_become_a_head(tmp_path: Path) -> None:
    arrays, out = write_flame(tmp_path), tmp_path / "head"
    files = ("FLAME_NEUTRAL.pkl", "flame_static_embedding.pkl", "flame_dynamic_embedding.npy")
    for name in (*files, "mediapipe_landmark_embedding.npz"):
        convert_file(tmp_path / name, out)
    for path in out.glob("*.npz"):
        with np.load(path, allow_pickle=False) as data:
            assert all(data[name].dtype.kind in "fiu" for name in data.files)
    model = load_head_model(out)
    assert (model.kind, model.num_betas, model.num_expressions) == ("flame", 300, 100)
    assert model.landmark_sets == ("mediapipe", "ibug51", "ibug68")
    betas = np.random.default_rng(1).normal(size=300)
    found = model.forward(betas=torch.tensor(betas)[None], landmarks="ibug51")
    shape = arrays["v_template"] + arrays["shapedirs"][:, :, :300] @ betas
    assert_close(found.vertices[0], shape)
    face, corners = arrays["static"]
    assert_close(found.landmarks[0], np.einsum("lci,lc->li", shape[arrays["f"][face]], corners))
    media, media_corners = arrays["media"]
    seen = model.forward(betas=torch.tensor(betas)[None]).landmarks[0]
    assert_close(seen, np.einsum("lci,lc->li", shape[arrays["f"][media]], media_corners))


def test_official_smplx_npz_with_pickled_members_becomes_a_head(tmp_path: Path) -> None:
    arrays = official_arrays("smplx")
    names: Any = {"pelvis": 0, "jaw": 22}
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", joint2num=np.array(names, dtype=object), **arrays)
    convert_file(tmp_path / "SMPLX_NEUTRAL.npz", tmp_path / "head")
    model = load_head_model(tmp_path / "head")
    assert (model.kind, model.num_betas, model.num_expressions) == ("smplx", 300, 100)
    assert model.landmark_sets == ("ibug51", "ibug68")
    found = model.forward(expression=torch.full((2, 100), 0.1, dtype=torch.float64), landmarks="ibug68")
    assert found.landmarks.shape == (2, 68, 3)
    wanted = arrays["v_template"] + 0.1 * arrays["shapedirs"][:, :, 300:].sum(2)
    assert_close(found.vertices[1], wanted)


def test_fewer_directions_mean_ten_and_ten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = official_arrays("flame", directions=20)
    (tmp_path / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(arrays))
    convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path / "head")
    model = load_head_model(tmp_path / "head")
    assert (model.num_betas, model.num_expressions) == (10, 10)
    assert model.landmark_sets == ()
    vertices = expression_only(model)
    assert_close(vertices, arrays["v_template"] + arrays["shapedirs"][:, :, 13])
    assert capsys.readouterr().out == ""  # the package would have warned on stdout and gone its own way


def expression_only(model: HeadModel) -> torch.Tensor:
    expression = torch.zeros(1, 10, dtype=torch.float64)
    expression[0, 3] = 1.0
    return model.forward(expression=expression, landmarks=None).vertices[0]


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make the file `marker`, and what their refusal must name."""
    import codecs

    code = f"open({str(marker)!r}, 'w')"
    eval_op = b"c__builtin__\neval\n(" + b"X" + len(code).to_bytes(4, "little") + code.encode() + b"tR."
    rebuilt = b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR."
    return {
        "system": (pickle.dumps({"v_template": Calls(os.system, f"touch {marker}")}), "posix.system"),
        "eval": (b"\x80\x02" + eval_op, "__builtin__.eval"),
        "codecs": (pickle.dumps(Calls(codecs.decode, b"x", "rot13")), "_codecs.decode"),
        "other codec": (pickle.dumps(Calls(codecs.encode, "x", "utf-7")), "utf-7"),
        "reconstructor": (b"\x80\x02" + rebuilt, "_reconstructor"),
        "numpy's own doors": (b"cnumpy.f2py.crackfortran\nmyeval\n.", "numpy.f2py.crackfortran.myeval"),
        "attribute": (b"cnumpy\nndarray.tofile\n.", "numpy.ndarray.tofile"),
        "getattr": (pickle.dumps(Calls(getattr, "x", "upper")), "builtins.getattr"),
        "chumpy's children": (b"cchumpy.reordering\nSelect\n.", "chumpy.reordering.Select"),
    }


@pytest.mark.parametrize("case", sorted(hostile(Path("marker"))))
def test_a_hostile_pickle_is_refused_and_does_nothing(case: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content, named = hostile(marker)[case]
    (tmp_path / "FLAME_NEUTRAL.pkl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path / "head")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert not (tmp_path / "head").exists()


def test_a_hostile_member_of_an_npz_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    value: Any = np.array(Calls(os.system, f"touch {marker}"), dtype=object)
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", v_template=value)
    with pytest.raises(InputError, match=r"posix\.system"):
        convert_file(tmp_path / "SMPLX_NEUTRAL.npz", tmp_path / "head")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", b"\x80\x02}", pickle.dumps(list(range(9))), b"\x80\x02P1\n."]
)
def test_a_damaged_file_gives_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "FLAME_NEUTRAL.pkl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path / "head")
    assert "FLAME_NEUTRAL.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reader_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flame(tmp_path)
    monkeypatch.setattr(foreign_models, "TIME_LIMIT_S", 0.001)
    with pytest.raises(InputError, match="was stopped"):
        convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path / "head")


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path)
    (tmp_path / "body.pkl").write_bytes(pickle.dumps({"v_template": np.zeros((4, 3))}))
    with pytest.raises(InputError, match="without 'f'"):
        convert_file(tmp_path / "body.pkl", tmp_path)
    np.savez(tmp_path / "other.npz", numbers=np.zeros(3))
    with pytest.raises(InputError, match="neither a head model nor a landmark embedding"):
        convert_file(tmp_path / "other.npz", tmp_path)


def test_an_embedding_of_another_mesh_is_found_out(tmp_path: Path) -> None:
    write_flame(tmp_path)
    convert_file(tmp_path / "FLAME_NEUTRAL.pkl", tmp_path / "head")
    face, corners = np.full(51, 9975), np.full((51, 3), 1 / 3)
    static = python2_pickle({"lmk_face_idx": face, "lmk_b_coords": corners})
    (tmp_path / "flame_static_embedding.pkl").write_bytes(static)
    convert_file(tmp_path / "flame_static_embedding.pkl", tmp_path / "head")
    with pytest.raises(DataError, match="triangle 9975"):
        load_head_model(tmp_path / "head")

"""Reading ICT-FaceKit's own OBJ files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import DataError, ModelError
from model.face.ict_head import IctHead
from tests.support.closeness import assert_close

SQUARE = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.5]], np.float32)
SMILE = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.1, -0.2, 0.0], [0.0, 0.0, 0.0]], np.float32)
TALL = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.3, 0.0]], np.float32)


def write_obj(path: Path, vertices: NDArray[np.float32], faces: tuple[str, ...]) -> None:
    lines = ["mtllib ICTFaceModelMaterial.mtl", *(f"v {x} {y} {z}" for x, y, z in vertices)]
    lines += ["vt 0.5 0.5", "vn 0 0 1", "usemtl M_Face", *(f"f {face}" for face in faces)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    meshes = {
        "generic_neutral_mesh": SQUARE,
        "identity000": SQUARE + TALL,
        "identity001": SQUARE - TALL,
        "mouthSmile_L": SQUARE + SMILE,
        "jawOpen": SQUARE - SMILE,
    }
    for name, vertices in meshes.items():
        write_obj(folder / f"{name}.obj", vertices, ("1/1/1 2/1/1 3/1/1 4/1/1", "1 2 3"))
    return tmp_path / "ICT-FaceKit"


def test_checkout_and_its_model_folder_give_the_same_head(checkout: Path) -> None:
    for path in (checkout, checkout / "FaceXModel"):
        head = IctHead.load(path)
        assert head.expression_names == ("jawOpen", "mouthSmile_L")
        assert_close(head.neutral, SQUARE)
        assert_close(head.identities, np.stack([TALL, -TALL]))
        assert_close(head.expressions, np.stack([-SMILE, SMILE]))


def test_quads_are_split_into_triangles_that_keep_their_winding(checkout: Path) -> None:
    assert IctHead.load(checkout).triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


def test_npz_holds_triangles_too_and_a_subset_has_none(tmp_path: Path) -> None:
    path = tmp_path / "ict.npz"
    tri = np.array([[0, 1, 2]], np.int32)
    np.savez(path, neutral=SQUARE, tri=tri, expr=SMILE[None], expr_names=np.array(["smile"]), ident=TALL[None])
    head = IctHead.load(path)
    assert head.triangles.tolist() == [[0, 1, 2]]
    part = head.subset(np.array([2, 3]))
    assert part.triangles.shape == (0, 3)
    assert_close(part.shape([1.0]), (SQUARE + TALL)[2:])


def test_what_is_missing_or_damaged_is_named(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.npz"):
        IctHead.load(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="generic_neutral_mesh"):
        IctHead.load(tmp_path)
    folder = checkout / "FaceXModel"
    write_obj(folder / "eyeBlink_L.obj", SQUARE[:3], ())
    with pytest.raises(DataError, match=r"eyeBlink_L\.obj has 3 vertices, the neutral mesh 4"):
        IctHead.load(checkout)
    (folder / "eyeBlink_L.obj").write_text("v 1 2\nv 3 4\n")
    with pytest.raises(DataError, match="hold 4 numbers"):
        IctHead.load(checkout)
    (folder / "eyeBlink_L.obj").unlink()
    write_obj(folder / "generic_neutral_mesh.obj", SQUARE, ("1 2 -1",))
    with pytest.raises(DataError, match="numbered from 1"):
        IctHead.load(checkout)

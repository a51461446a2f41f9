"""FLAME and SMPL-X of the `smplx` package, built from arrays.

The package's own constructors read files, and FLAME's always unpickles its landmark embedding. These subclasses call
the constructors of their base classes, which take a `Struct` of arrays, and set what the skipped ones would have set:
so `smplx` never opens a file here, and its forward passes (linear blend skinning, neck-dependent contour) are used as
they are. Imports `smplx` and torch: import this module only where a layer is built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import smplx
import torch
from smplx.body_models import SMPL, SMPLH
from smplx.utils import Struct, find_joint_kin_chain
from smplx.vertex_ids import vertex_ids
from torch import Tensor

from model.face.head_files import EXPRESSION_COLUMNS, IDENTITY_COLUMNS, Embedding, HeadArrays

NECK_JOINT = {"flame": 1, "smplx": 12}
_WITHOUT_PARAMETERS = {
    f"create_{name}": False
    for name in (
        "betas expression global_orient transl body_pose neck_pose jaw_pose leye_pose reye_pose "
        "left_hand_pose right_hand_pose"
    ).split()
}


class ArrayFlame(smplx.FLAME):  # type: ignore[misc]  # smplx ships no types
    """FLAME without files and without stored parameters: every call passes its own, in any batch size."""

    def __init__(self, head: HeadArrays, dtype: torch.dtype) -> None:
        SMPL.__init__(
            self,
            model_path="",
            data_struct=_struct(head),
            num_betas=head.identity_dirs.shape[2],
            dtype=dtype,
            **_WITHOUT_PARAMETERS,
        )
        _finish(self, head, dtype)


class ArraySmplx(smplx.SMPLX):  # type: ignore[misc]  # smplx ships no types
    """SMPL-X without files and without stored parameters; hands flat."""

    def __init__(self, head: HeadArrays, dtype: torch.dtype) -> None:
        SMPLH.__init__(
            self,
            model_path="",
            data_struct=_struct(head),
            num_betas=head.identity_dirs.shape[2],
            dtype=dtype,
            use_pca=False,
            flat_hand_mean=True,
            vertex_ids=vertex_ids["smplx"],
            **_WITHOUT_PARAMETERS,
        )
        _finish(self, head, dtype)


def _struct(head: HeadArrays) -> Any:
    """The package's data structure. It wants 400 directions: given fewer it warns and takes 10 + 10."""
    directions = np.zeros((len(head.v_template), 3, IDENTITY_COLUMNS + EXPRESSION_COLUMNS), np.float32)
    directions[:, :, : head.identity_dirs.shape[2]] = head.identity_dirs
    parents = np.where(head.parents < 0, 0, head.parents)
    return Struct(
        v_template=head.v_template,
        f=head.faces,
        shapedirs=directions,
        posedirs=head.posedirs,
        J_regressor=head.joint_regressor,
        kintree_table=np.stack([parents, np.arange(len(parents))]),
        weights=head.weights,
        **head.hands,
    )


def _finish(layer: Any, head: HeadArrays, dtype: torch.dtype) -> None:
    """Set what the file-reading constructors set after their base class."""
    # SMPL-X picks body key points by vertex numbers up to 9929, which smaller meshes lack; nothing here uses them
    layer.vertex_joint_selector.extra_joints_idxs = torch.zeros(0, dtype=torch.long)
    layer.register_buffer("expr_dirs", torch.tensor(head.expression_dirs, dtype=dtype))
    layer._num_expression_coeffs = head.expression_dirs.shape[2]
    static = head.landmarks or Embedding(np.zeros(0, np.int64), np.zeros((0, 3)))
    layer.register_buffer("lmk_faces_idx", torch.from_numpy(static.face))
    layer.register_buffer("lmk_bary_coords", torch.tensor(static.barycentric, dtype=dtype))
    layer.use_face_contour = head.contour is not None
    if head.contour is not None:
        layer.register_buffer("dynamic_lmk_faces_idx", torch.from_numpy(head.contour.face))
        layer.register_buffer("dynamic_lmk_bary_coords", torch.tensor(head.contour.barycentric, dtype=dtype))
        # smplx.FLAME.NECK_IDX is the root, so its contour would not see the neck joint turn (SMPL-X's does)
        parents = [int(parent) for parent in head.parents]
        chain: list[int] = find_joint_kin_chain(NECK_JOINT[head.about.kind], parents)
        layer.register_buffer("neck_kin_chain", torch.tensor(chain))


def run_flame(layer: ArrayFlame, pose: dict[str, Tensor]) -> Any:
    """The package's output; `pose` as `HeadModel.forward` fills it, all of one batch size."""
    eyes = torch.zeros_like(pose["jaw_pose"])
    return layer(leye_pose=eyes, reye_pose=eyes, **pose)


def run_smplx(layer: ArraySmplx, pose: dict[str, Tensor]) -> Any:
    """As `run_flame`; the body stands in its rest pose but for the neck (body poses leave out the root)."""
    zeros = torch.zeros_like(pose["jaw_pose"])
    body = zeros.repeat(1, layer.NUM_BODY_JOINTS)
    neck = NECK_JOINT["smplx"]
    body[:, 3 * (neck - 1) : 3 * neck] = pose["neck_pose"]
    hand = zeros.repeat(1, layer.NUM_HAND_JOINTS)
    rest = {name: value for name, value in pose.items() if name != "neck_pose"}
    return layer(body_pose=body, left_hand_pose=hand, right_hand_pose=hand, leye_pose=zeros, reye_pose=zeros, **rest)

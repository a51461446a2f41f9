"""One interface over FLAME and SMPL-X of the `smplx` package, whether licensed or built from ICT-FaceKit.

Head axes: x to the subject's left, y up, z out of the face; metres. Load with `load_head_model`; files are described
in `model.face.head_files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.head_files import Embedding, HeadArrays, read_head
from model.face.landmark_model import LandmarkModel, landmark_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IRISES: Final = range(468, 478)  # they turn with the eyeballs, which nothing here fits
NUM_MEDIAPIPE: Final = 478

IBUG_IN_MEDIAPIPE: Final = tuple(
    int(i)
    for i in (
        "162 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 389 "
        "71 63 105 66 107 336 296 334 293 301 168 197 5 4 75 97 2 326 305 "
        "33 160 158 133 153 144 362 385 387 263 373 380 "
        "61 39 37 0 267 269 291 405 314 17 84 181 78 82 13 312 308 317 14 87"
    ).split()
)
"""The MediaPipe landmark nearest to each of the 68 iBUG landmarks."""


@dataclass(frozen=True)
class HeadOutput:
    """One forward pass; metres."""

    vertices: Tensor  # (B, V, 3)
    landmarks: Tensor  # (B, L, 3)


class HeadModel:
    """A head: identity (`betas`), expression, jaw, neck and global pose to vertices and landmarks.

    Read-only after construction; the layer of the `smplx` package is built at the first `forward`.
    """

    def __init__(self, head: HeadArrays) -> None:
        self.head = head

    @property
    def kind(self) -> str:
        """`flame` or `smplx`."""
        return self.head.about.kind

    @property
    def num_betas(self) -> int:
        """Number of identity coefficients (unit variance)."""
        return int(self.head.identity_dirs.shape[2])

    @property
    def num_expressions(self) -> int:
        """Number of expression coefficients."""
        return int(self.head.expression_dirs.shape[2])

    @property
    def expression_names(self) -> tuple[str, ...]:
        """What each expression coefficient is called; `expression000` and so on where the model names none."""
        names = self.head.about.expression_names
        return names or tuple(f"expression{index:03d}" for index in range(self.num_expressions))

    @property
    def faces(self) -> NDArray[np.int64]:
        """Triangles (F, 3)."""
        return self.head.faces

    @property
    def landmark_sets(self) -> tuple[str, ...]:
        """Which of `mediapipe`, `ibug51` (without the contour) and `ibug68` this head carries."""
        head = self.head
        found = {
            "mediapipe": head.mediapipe is not None,
            "ibug51": head.landmarks is not None,
            "ibug68": head.landmarks is not None and head.contour is not None,
        }
        return tuple(name for name, there in found.items() if there)

    def landmark_names(self, landmarks: str = "mediapipe") -> tuple[int, ...]:
        """The numbers of a set's landmarks, in the order of `forward`: MediaPipe's 0..477, or iBUG's 0..67.

        Raises:
            InputError: This head has no such set.
        """
        self._check_set(landmarks)
        if landmarks == "mediapipe":
            return tuple(int(number) for number in self._mediapipe_numbers())
        return tuple(range(17, 68) if landmarks == "ibug51" else range(68))

    def forward(
        self,
        *,
        betas: Tensor | None = None,  # (B, n), n up to num_betas; missing ones are 0
        expression: Tensor | None = None,  # (B, n)
        jaw_pose: Tensor | None = None,  # (B, 3) rotation vectors, radians; x > 0 opens
        neck_pose: Tensor | None = None,  # (B, 3)
        global_orient: Tensor | None = None,  # (B, 3), about the root joint
        transl: Tensor | None = None,  # (B, 3) metres
        landmarks: str | None = "mediapipe",
    ) -> HeadOutput:
        """Vertices and landmarks (none: None); differentiable. A part given for one frame counts for the whole batch.

        Raises:
            InputError: The parts disagree about the batch, or this head has no such landmarks.
        """
        from model.face.smplx_layers import ArrayFlame, run_flame, run_smplx

        if landmarks is not None:
            self._check_set(landmarks)
        pose = {
            "betas": (betas, self.num_betas),
            "expression": (expression, self.num_expressions),
            "jaw_pose": (jaw_pose, 3),
            "neck_pose": (neck_pose, 3),
            "global_orient": (global_orient, 3),
            "transl": (transl, 3),
        }
        full = _fill(pose)
        layer = self._layer(full["betas"].dtype)
        output = run_flame(layer, full) if isinstance(layer, ArrayFlame) else run_smplx(layer, full)
        return HeadOutput(output.vertices, self._pick(output, landmarks))

    def landmark_model(self, *, num_betas: int | None = None, num_expressions: int | None = None) -> LandmarkModel:
        """The landmarks that tracking sees, in closed form: MediaPipe's without the irises, or else iBUG's 51.

        Raises:
            InputError: This head has no landmarks.
        """
        betas = min(num_betas or self.num_betas, self.num_betas)
        expressions = min(num_expressions or self.num_expressions, self.num_expressions)
        head = self.head
        if head.mediapipe is not None:
            numbers = self._mediapipe_numbers()
            kept = np.flatnonzero(~np.isin(numbers, list(IRISES)))
            embedding = Embedding(head.mediapipe.face[kept], head.mediapipe.barycentric[kept])
            numbers = numbers[kept]
        elif head.landmarks is not None:
            embedding, numbers = head.landmarks, np.array(IBUG_IN_MEDIAPIPE[17:], np.int64)
        else:
            raise self._absent("mediapipe")
        return landmark_model(head, embedding, numbers, num_betas=betas, num_expressions=expressions)

    def root_joint(self, betas: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where the root joint lies for an identity, (3,) metres; `global_orient` turns about it."""
        regressor = self.head.joint_regressor[0].astype(np.float64)
        shape = self.head.v_template + self.head.identity_dirs[:, :, : len(betas)] @ np.asarray(betas)
        return np.asarray(regressor @ shape, np.float64)

    @cached_property
    def _layers(self) -> dict[Any, Any]:
        return {}

    def _layer(self, dtype: torch.dtype) -> Any:
        from model.face.smplx_layers import ArrayFlame, ArraySmplx

        if dtype not in self._layers:
            build = ArrayFlame if self.kind == "flame" else ArraySmplx
            self._layers[dtype] = build(self.head, dtype)
        return self._layers[dtype]

    def _pick(self, output: Any, landmarks: str | None) -> Tensor:
        import torch

        head = self.head
        if landmarks is None:
            return torch.zeros_like(output.vertices[:, :0])
        if landmarks == "mediapipe" and head.mediapipe is not None:
            corners = output.vertices[:, torch.from_numpy(head.faces[head.mediapipe.face])]
            weights = torch.tensor(head.mediapipe.barycentric, dtype=corners.dtype)
            return torch.einsum("blci,lc->bli", corners, weights)
        points: Tensor = output.joints[:, len(head.parents) :]  # smplx appends 51 landmarks, then 17 of the contour
        if landmarks == "ibug51":
            return points[:, :51]
        return torch.cat([points[:, 51:], points[:, :51]], 1)

    def _mediapipe_numbers(self) -> NDArray[np.int64]:
        embedding = self.head.mediapipe
        if embedding is None or embedding.mediapipe is None:
            raise self._absent("mediapipe")
        return embedding.mediapipe

    def _check_set(self, landmarks: str) -> None:
        if landmarks not in self.landmark_sets:
            raise self._absent(landmarks)

    def _absent(self, landmarks: str) -> InputError:
        there = ", ".join(self.landmark_sets) or "none"
        return InputError(f"this {self.kind} head has no {landmarks!r} landmarks (it has: {there}); convert their file")


def load_head_model(path: Path) -> HeadModel:
    """Load a head folder that `nerf-lipsync head-model` wrote.

    Raises:
        DataError: A file is missing, damaged, or not one of ours.
    """
    return HeadModel(read_head(path))


def _fill(pose: dict[str, tuple[Tensor | None, int]]) -> dict[str, Tensor]:
    """Every part in full width and one batch size; zeros where none was given."""
    import torch

    given = [value for value, _ in pose.values() if value is not None]
    dtype = given[0].dtype if given else torch.float32
    batch = max((len(value) for value in given), default=1)
    full = {}
    for name, (value, width) in pose.items():
        part = torch.zeros(batch, width, dtype=dtype)
        if value is not None:
            if value.ndim != 2 or len(value) not in (1, batch) or value.shape[1] > width:
                raise InputError(f"{name} has shape {tuple(value.shape)}, wanted ({batch}, up to {width})")
            part = torch.nn.functional.pad(value.to(dtype), (0, width - value.shape[1])).expand(batch, -1)
        full[name] = part
    return full

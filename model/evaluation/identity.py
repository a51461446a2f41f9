"""Does the made face remain the same person? Cosine of face embeddings (CSIM in the field's tables).

The embedder is any 112 x 112 face recognition network in an ONNX file given by path: MobileFaceNet (Chen et al. 2018),
or ArcFace r50 / r100 (Deng et al. 2019). OpenCV runs it, which reads ONNX without pickle and is installed anyway. Faces
are laid onto ArcFace's five-point template by a similarity, as all of these networks were trained. Cosines of different
networks are not comparable: name the file beside the number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.tables import Metric
from model.fetching import sha256_of
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LIP_CORNERS

__all__ = ["IDENTITY_METRIC", "FaceEmbedder", "align_faces", "cosine_similarity", "five_points", "identity_cosine"]

FACE_PX: Final = 112
ARCFACE_TEMPLATE: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) where eyes, nose tip and mouth corners lie in a 112 x 112 face, pixel indices (Deng et al. 2019)."""
NOSE_TIP: Final = 1  # MediaPipe Face Mesh
INPUT_MEAN, INPUT_SCALE = 127.5, 1 / 127.5

Float64 = NDArray[np.float64]
Frames = NDArray[np.uint8]

IDENTITY_METRIC = Metric(
    name="identity_cosine",
    title="identity",
    unit="cosine",
    better="higher",
    definition="Cosine of the face embeddings of made and real frame (the network is named below the table), faces "
    "aligned by ArcFace's five points (Deng et al. 2019), mean over frames.",
)


class FaceEmbedder:
    """A face recognition network from an ONNX file: RGB, 112 x 112, values (x - 127.5) / 127.5.

    Args:
        path: The ONNX file.
        normalises_itself: The graph begins with that subtraction and division (exports from MXNet, such as the ONNX
            model zoo's ArcFace r100) and wants 0..255.

    Raises:
        InputError: The file is missing or no such network.
    """

    def __init__(self, path: Path, *, normalises_itself: bool = False) -> None:
        if not path.is_file():
            raise InputError(f"no face embedder at {path}: give the ONNX file of MobileFaceNet or ArcFace (112 x 112)")
        self._mean, self._scale = (0.0, 1.0) if normalises_itself else (INPUT_MEAN, INPUT_SCALE)
        try:
            self._network: Any = cv2.dnn.readNetFromONNX(str(path))
            size = self._run(np.zeros((FACE_PX, FACE_PX, 3), np.uint8)).size
        except cv2.error as error:
            reason = " ".join(str(error).split())[-120:]
            raise InputError(f"{path} is no ONNX network for 1 x 3 x {FACE_PX} x {FACE_PX} faces: {reason}") from error
        self.size = size
        self.name = path.stem
        self.sha256 = sha256_of(path)

    def embed(self, faces: Frames) -> Float64:
        """(N, size) embeddings of unit length for aligned RGB faces (N, 112, 112, 3), uint8.

        Raises:
            InputError: The shape or type is wrong.
        """
        if faces.ndim != 4 or faces.shape[1:] != (FACE_PX, FACE_PX, 3) or faces.dtype != np.uint8:
            raise InputError(f"aligned faces are (N, {FACE_PX}, {FACE_PX}, 3) uint8, got {faces.shape} {faces.dtype}")
        found = np.array([self._run(face) for face in faces], np.float64).reshape(len(faces), self.size)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float64)

    def _run(self, face: Frames) -> NDArray[np.float32]:
        """One face at a time: the exported graphs have a batch of one built in."""
        mean = (self._mean, self._mean, self._mean)
        self._network.setInput(cv2.dnn.blobFromImage(face, self._scale, (FACE_PX, FACE_PX), mean))
        return np.asarray(self._network.forward(), np.float32).ravel()


def identity_cosine(
    embedder: FaceEmbedder,
    made: Frames,
    made_landmarks_px: NDArray[np.float32],
    truth: Frames,
    truth_landmarks_px: NDArray[np.float32],
) -> Float64:
    """(T,) cosine of each made frame's face with the real frame's, -1..1.

    Args:
        made, truth: (T, H, W, 3) RGB uint8; the sizes of the two may differ.
        made_landmarks_px, truth_landmarks_px: (T, 478, 2 or 3), pixel centres at +0.5.

    Raises:
        InputError: Shapes or types are wrong, or landmarks are missing.
    """
    if len(made) != len(truth):
        raise InputError(f"identity needs as many made as real frames, got {len(made)} and {len(truth)}")
    ours = embedder.embed(align_faces(made, five_points(made_landmarks_px)))
    theirs = embedder.embed(align_faces(truth, five_points(truth_landmarks_px)))
    return cosine_similarity(ours, theirs)


def cosine_similarity(a: Float64, b: Float64) -> Float64:
    """Cosine of the angle between the rows of (N, E) and (N, E): (N,).

    Raises:
        InputError: The shapes disagree, or a row is zero.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise InputError(f"embeddings to compare are both (N, E), got {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not (lengths > 0).all():
        raise InputError(f"{int((lengths == 0).sum())} of {len(a)} embeddings have no direction (all zero)")
    return np.asarray((a * b).sum(1) / lengths, np.float64)


def five_points(landmarks_px: NDArray[np.float32]) -> Float64:
    """(T, 5, 2) eyes, nose tip and mouth corners of 478-point landmarks, in the template's order.

    The first eye and corner are those on the left of an unmirrored picture, the subject's right. An eye is the middle
    of its corners: lids and gaze do not move it.

    Raises:
        InputError: The shape is wrong, or landmarks are NaN.
    """
    if landmarks_px.ndim != 3 or landmarks_px.shape[1] < 468 or landmarks_px.shape[2] < 2:
        raise InputError(f"landmarks are (T, 478, 2 or 3), got {landmarks_px.shape}")
    xy = landmarks_px[..., :2].astype(np.float64)
    right, left = xy[:, list(EYE_CORNERS_RIGHT)].mean(1), xy[:, list(EYE_CORNERS_LEFT)].mean(1)
    points = np.stack([right, left, xy[:, NOSE_TIP], xy[:, LIP_CORNERS[0]], xy[:, LIP_CORNERS[1]]], axis=1)
    missing = int((~np.isfinite(points)).any((1, 2)).sum())
    if missing:
        raise InputError(f"{missing} of {len(points)} frames have no landmarks: fill the gaps or cut them out")
    return points


def align_faces(frames: Frames, points_px: Float64) -> Frames:
    """(T, 112, 112, 3) faces of frames (T, H, W, 3), laid onto ArcFace's template; outside the picture: black.

    Args:
        frames: RGB, uint8.
        points_px: (T, 5, 2) as `five_points` gives them; pixel centres at +0.5.

    Raises:
        InputError: Shapes or types are wrong, or a frame's points coincide.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames are (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    if points_px.shape != (len(frames), 5, 2):
        raise InputError(f"alignment needs ({len(frames)}, 5, 2) points, got {points_px.shape}")
    faces = np.empty((len(frames), FACE_PX, FACE_PX, 3), np.uint8)
    for index, (frame, points) in enumerate(zip(frames, points_px, strict=True)):
        matrix = _similarity(points - 0.5, ARCFACE_TEMPLATE)  # OpenCV counts from pixel centres
        cv2.warpAffine(frame, matrix, (FACE_PX, FACE_PX), dst=faces[index], flags=cv2.INTER_LINEAR)
    return faces


def _similarity(source: Float64, target: Float64) -> Float64:
    """(2, 3): the rotation, scale and shift that take source (N, 2) nearest to target, least squares.

    As complex numbers a similarity is z -> a z + b, so this is a line fit (the same as Umeyama 1991 without mirroring).
    """
    z, w = source @ np.array([1, 1j]), target @ np.array([1, 1j])
    middle_z, middle_w = z.mean(), w.mean()
    spread = float((np.abs(z - middle_z) ** 2).sum())
    if spread == 0:
        raise InputError(f"the five points of a face coincide at {tuple(source[0])}")
    a = (np.conj(z - middle_z) * (w - middle_w)).sum() / spread
    b = middle_w - a * middle_z
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])

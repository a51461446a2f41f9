"""Chroma key for clips before a plain coloured backdrop.

The backdrop is a smooth field: a cubic polynomial in the picture's coordinates, fitted robustly to what shows of it,
plus its slowly varying residual. It is fitted anew in every frame, so slow changes of light are followed. A pixel
counts by its distance from the backdrop's colour with the brightness left free (shadows on the backdrop are backdrop).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alpha_edge import Colours, Mask, Plane, component_with, fill_holes, near_px, solve_edge
from model.face.face_regions import FaceFrame, Picture, face_mask

STRIDE = 4  # the backdrop is fitted on every fourth pixel of both axes
SHADE = (0.65, 1.2)  # brightness of a backdrop pixel over the model's
UNIFORM_DISTANCE = 16.0  # 8-bit steps
UNIFORM_SHARE = 0.85  # of the surroundings must lie within that distance
LEAST_CHROMA = 12.0  # CIELAB; greys are no key colour
LEAST_SEPARATION = 40.0  # 8-bit steps between backdrop and face
LEAST_SAMPLES = 60
SOLID_DISTANCE = 0.3  # of the backdrop's brightness: a pixel that far off its colour shows no backdrop
HAIR_REACH, CLOTH_REACH = 0.1, 0.03  # face heights: how deep the backdrop shows through hair, and beside clothes
RIM, LEAST_RIM_PX = 0.016, 2.0  # width of the rim that mixes with the backdrop: face heights, and pixels at least
SPECK_SHARE = 0.0002  # of the picture: smaller holes are noise anywhere
HOLE_SHARE = 0.002  # of the picture: smaller holes are noise in clothes, but may be gaps beside the neck
CLOTHES_BELOW = 0.35  # face heights below the chin
WALL_ASIDE = 1.9  # face widths beside, or heights above, the chin: no hair reaches there
FIT_ROUNDS = 3
RESIDUAL_LIMITS = (40.0, 25.0)  # 8-bit steps off the field, brightness free, that are still backdrop


@dataclass(frozen=True, slots=True)
class BackdropVerdict:
    """What the surroundings of the head look like."""

    uniform: bool
    share: float  # of the surroundings that follow the smooth field
    chroma: float  # CIELAB chroma of the field's median
    separation: float  # median distance of the face from the field, 8-bit steps


def judge_backdrop(picture: Picture, landmarks_px: NDArray[np.float32]) -> BackdropVerdict:
    """Whether a picture's backdrop can be keyed."""
    zone = FaceFrame.of(landmarks_px).surroundings(picture.shape)
    face = face_mask(landmarks_px, picture.shape) > 0
    if np.count_nonzero(zone[::STRIDE, ::STRIDE]) < LEAST_SAMPLES or not face.any():
        return BackdropVerdict(False, 0.0, 0.0, 0.0)
    colours = picture.astype(np.float32)
    backdrop = _fit_backdrop(colours, zone)
    distance = _distance(colours, backdrop)
    share = float((distance[zone] < UNIFORM_DISTANCE).mean())
    middle = np.median(backdrop[zone], axis=0).astype(np.float32)
    lab = cv2.cvtColor(middle[None, None] / 255, cv2.COLOR_RGB2LAB)[0, 0]
    chroma = float(np.hypot(lab[1], lab[2]))
    separation = float(np.median(distance[face]))
    uniform = share >= UNIFORM_SHARE and chroma >= LEAST_CHROMA and separation >= LEAST_SEPARATION
    return BackdropVerdict(uniform, share, chroma, separation)


class ChromaKey:
    """Keys consecutive frames; remembers where the backdrop showed."""

    def __init__(self) -> None:
        self._zone: Mask | None = None

    def matte(self, picture: Picture, landmarks_px: NDArray[np.float32]) -> tuple[Plane, Colours]:
        """Alpha (H, W) 0..1 and despilled colours (H, W, 3) 0..255 of the next frame."""
        colours = picture.astype(np.float32)
        zone = self._zone
        if zone is None or zone.shape != picture.shape[:2]:
            first = FaceFrame.of(landmarks_px).surroundings(picture.shape)
            zone = _distance(colours, _fit_backdrop(colours, first)) < UNIFORM_DISTANCE
        backdrop = _fit_backdrop(colours, zone)
        distance = _distance(colours, backdrop)
        low = _noise_limit(distance, zone)
        face = face_mask(landmarks_px, picture.shape) > 0
        frame = FaceFrame.of(landmarks_px)
        person = _person(distance > low, face, frame)
        solid = np.maximum(SOLID_DISTANCE * cv2.sqrt(_sum(backdrop * backdrop)), 2 * low)
        inside = _inside(distance, solid, person, face, frame)
        rough = np.clip((distance - low) / (solid - low), 0, 1)
        alpha, clean = solve_edge(
            colours, inside, ~person, backdrop=backdrop, rough=rough, near_px=near_px(frame.height_px)
        )
        self._zone = _depth(~person) > max(LEAST_RIM_PX, RIM * frame.height_px)
        return alpha, clean


def _person(differs: Mask, face: Mask, frame: FaceFrame) -> Mask:
    """What differs from the backdrop and hangs together with the face; walls beside the backdrop are cut off."""
    below, aside = frame.grid(differs.shape)
    beside = (below < 0) & ((np.abs(aside) > WALL_ASIDE) | (below < -WALL_ASIDE))
    person = component_with((differs & ~beside) | face, face)
    person = fill_holes(person, largest_px=int(SPECK_SHARE * person.size))
    clothes = below > CLOTHES_BELOW
    return np.where(clothes, fill_holes(person, largest_px=int(HOLE_SHARE * person.size)), person)


def _inside(distance: Plane, solid: Plane, person: Mask, face: Mask, frame: FaceFrame) -> Mask:
    """Opaque pixels: solid ones a rim from any edge, and all that lie deep in the person and are no gap."""
    below, _ = frame.grid(solid.shape)
    depth = _depth(person) / frame.height_px
    hair = (depth > HAIR_REACH) & (distance > 0.5 * solid)
    deep = np.where(below > 0, depth > CLOTH_REACH, hair)
    filled = ((distance > solid) & person) | (face & person) | deep
    filled = fill_holes(filled, largest_px=int(SPECK_SHARE * filled.size))
    return np.asarray(_depth(filled) > max(LEAST_RIM_PX, RIM * frame.height_px), np.bool_)


def _depth(mask: Mask) -> Plane:
    """How far each pixel lies from the outside of a mask, pixels; the picture's border is no outside."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def _noise_limit(distance: Plane, zone: Mask) -> float:
    sample = distance[::STRIDE, ::STRIDE][zone[::STRIDE, ::STRIDE]]
    if len(sample) < LEAST_SAMPLES:
        return UNIFORM_DISTANCE
    middle = float(np.median(sample))
    spread = 1.4826 * float(np.median(np.abs(sample - middle)))
    return float(np.clip(middle + 4 * spread, 8.0, UNIFORM_DISTANCE))


def _distance(colours: Colours, backdrop: Colours) -> Plane:
    """Length of what is left of a colour after the best shade of the backdrop's is taken away."""
    along = _sum(colours * backdrop) / np.maximum(_sum(backdrop * backdrop), 1.0)
    rest = colours - np.clip(along, *SHADE).astype(np.float32)[..., None] * backdrop
    return np.asarray(cv2.sqrt(_sum(rest * rest)), np.float32)


def _sum(values: Colours) -> Plane:
    return np.asarray(cv2.transform(values, np.ones((1, 3), np.float32)), np.float32)


def _fit_backdrop(colours: Colours, zone: Mask) -> Colours:
    """The smooth field through the colours of `zone`, (H, W, 3)."""
    height, width = zone.shape
    small = np.asarray(cv2.blur(colours, (STRIDE, STRIDE))[::STRIDE, ::STRIDE], np.float32)
    known = zone[::STRIDE, ::STRIDE]
    basis = _cubic_basis(*known.shape)
    field = _robust_fit(small.reshape(-1, 3), basis, known.ravel()).reshape(small.shape)
    for limit in RESIDUAL_LIMITS:
        weight = (known & (_distance(small, field) < limit)).astype(np.float32)
        residual = cv2.merge([*cv2.split((small - field) * weight[..., None]), weight])
        smooth: NDArray[Any] = cv2.blur(residual, (9, 9))
        field = (field + smooth[..., :3] / (smooth[..., 3:] + 0.1)).astype(np.float32)
    return np.asarray(np.clip(_enlarge(field, height, width), 0, 255), np.float32)


def _robust_fit(
    samples: NDArray[np.float32], basis: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Least squares with outliers left out over a few rounds; the field at every sample."""
    used = known
    limit = 60.0
    for _ in range(FIT_ROUNDS):
        rows = basis[used]
        normal = rows.T @ rows + 1e-3 * np.eye(basis.shape[1], dtype=np.float32)
        field = basis @ np.linalg.solve(normal, rows.T @ samples[used])
        error = np.abs(samples - field).max(1)
        limit = float(np.clip(3 * np.median(error[used]), UNIFORM_DISTANCE, limit))
        kept = known & (error < limit)
        if np.count_nonzero(kept) < LEAST_SAMPLES:
            break
        used = kept
    return np.asarray(field, np.float32)


@lru_cache(maxsize=4)
def _cubic_basis(rows: int, columns: int) -> NDArray[np.float32]:
    """Monomials up to the third degree at the points of a grid over -1..1, (rows * columns, 10)."""
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    terms = [x**i * y**j for i in range(4) for j in range(4 - i)]
    return np.stack([t.ravel() for t in terms], 1).astype(np.float32)


def _enlarge(field: Colours, height: int, width: int) -> Colours:
    """Back to full size; sample (i, j) is the mean of the block whose middle is half a pixel before (4 i, 4 j)."""
    matrix = np.array([[1 / STRIDE, 0, 0.5 / STRIDE], [0, 1 / STRIDE, 0.5 / STRIDE]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(field, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )

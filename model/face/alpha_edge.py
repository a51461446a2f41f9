"""Soft edges: alpha and foreground colour between what is surely the person and what is surely not.

A pixel of the edge shows `alpha F + (1 - alpha) B` (Porter and Duff 1984). F is taken from the person nearby and B from
the backdrop, and alpha follows by projecting the pixel on the line from B to F (the closed form for one F and B in
Bayesian matting, Chuang et al. 2001).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NEAR, FAR_NEARS = 0.07, 4  # box over which colours are gathered, face heights; the wider box, in such boxes
SHRINK = 4  # the wide average is taken on a picture so much smaller
OFF_LINE = 14.0  # 8-bit steps from the line between F and B; beyond, they do not explain a pixel
PATTERNED = 12.0  # 8-bit steps by which the colours of a backdrop may differ nearby and count as one
FLAT_CONTRAST_SQ = 20.0**2  # F and B closer than this give no alpha
NOISE = 0.04  # alpha below it, and above 1 - it, is camera noise

Colours = NDArray[np.float32]  # (H, W, 3), 0..255
Plane = NDArray[np.float32]  # (H, W)
Mask = NDArray[np.bool_]  # (H, W)


def solve_edge(
    picture: Colours, inside: Mask, outside: Mask, *, backdrop: Colours | None, rough: Plane, near_px: int
) -> tuple[Plane, Colours]:
    """Alpha (H, W) 0..1 and foreground colours (H, W, 3) without the backdrop's spill.

    Args:
        picture: RGB, 0..255.
        inside: Where alpha is 1.
        outside: Where alpha is 0.
        backdrop: The picture without the person; None takes it from `outside` nearby.
        rough: Alpha 0..1 for pixels that the two colours nearby do not explain.
        near_px: Side of the box that colours are gathered from (see `near_px`).
    """
    front = spread_colours(picture, inside, near_px)
    if backdrop is None:
        back = spread_colours(picture, outside, near_px)
        plain = _plainness(picture, back, outside, near_px)
    else:
        back, plain = backdrop, np.ones_like(rough)
    alpha = inside.astype(np.float32)
    clean = np.where(outside[..., None], front, picture)
    edge = np.flatnonzero(~(inside | outside))
    colour, near, behind = (field.reshape(-1, 3)[edge] for field in (picture, front, back))
    solved = _unmix(colour, near, behind, rough.ravel()[edge], plain.ravel()[edge])
    alpha.ravel()[edge], clean.reshape(-1, 3)[edge] = solved
    return alpha, clean


def _plainness(picture: Colours, back: Colours, outside: Mask, near_px: int) -> Plane:
    """How far the backdrop nearby is of one colour: 1 plain, 0 patterned."""
    squares = spread_colours(picture * picture, outside, near_px)
    spread = np.sqrt(np.maximum(squares - back * back, 0).sum(2))
    return np.asarray(np.clip(2.0 - spread / PATTERNED, 0.0, 1.0), np.float32)


def _unmix(
    colour: NDArray[np.float32],
    front: NDArray[np.float32],
    back: NDArray[np.float32],
    rough: NDArray[np.float32],
    plain: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Alpha (N,) and foreground (N, 3) of N pixels from the colours on both sides of the edge."""
    line = front - back
    length_sq = (line * line).sum(1)
    share = ((colour - back) * line).sum(1) / np.maximum(length_sq, 1.0)
    share = np.clip((share - NOISE) / (1 - 2 * NOISE), 0.0, 1.0)
    off_line = np.linalg.norm(colour - back - share[:, None] * line, axis=1)
    explained = np.clip(2.0 - off_line / OFF_LINE, 0.0, 1.0) * (length_sq > FLAT_CONTRAST_SQ) * plain
    alpha = explained * share + (1 - explained) * rough
    alpha = np.maximum(alpha, plain * (_least_alpha(colour, back) - 2 * NOISE))
    unmixed = (colour - (1 - alpha[:, None]) * back) / np.maximum(alpha[:, None], 0.2)
    seen = plain[:, None] * unmixed + (1 - plain[:, None]) * colour
    trust = alpha[:, None] ** 2
    return alpha, np.clip(trust * seen + (1 - trust) * front, 0, 255)


def _least_alpha(colour: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.float32]:
    """The alpha below which no foreground colour within 0..255 gives this mixture."""
    darker = 1.0 - colour / np.maximum(back, 1.0)
    brighter = (colour - back) / np.maximum(255.0 - back, 1.0)
    trusted = np.where(back > 60, darker, 0.0)  # little says little
    return np.asarray(np.maximum(trusted, np.where(back < 195, brighter, 0.0)).max(1).clip(0, 1), np.float32)


def near_px(face_height_px: float) -> int:
    """Side of the box from which a pixel of the edge takes its two colours, pixels; odd, 5 at least."""
    return 2 * max(2, round(NEAR * face_height_px / 2)) + 1


def spread_colours(picture: Colours, where: Mask, near_px: int) -> Colours:
    """Colours of `where` carried into the rest by box averages, near ones first."""
    height, width = where.shape
    weight = where.astype(np.float32)
    known = cv2.merge([*cv2.split(picture * weight[..., None]), weight])
    near = cv2.blur(known, (near_px, near_px))
    wide = max(3, FAR_NEARS * near_px // SHRINK)
    small = cv2.resize(known, None, fx=1 / SHRINK, fy=1 / SHRINK, interpolation=cv2.INTER_AREA)
    far = cv2.blur(small, (wide, wide)) + 1e-4 * np.asarray(cv2.mean(known), np.float32)
    mixed: NDArray[Any] = near + 0.01 * cv2.resize(far, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(mixed[..., :3] / np.maximum(mixed[..., 3:], 1e-9), np.float32)


def component_with(mask: Mask, seed: Mask) -> Mask:
    """The connected part of `mask` that shares most pixels with `seed`; the largest part if none does."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    votes = np.bincount(parts[seed & mask], minlength=count)
    votes[0] = 0
    chosen = votes.argmax() if votes.any() else 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    return np.asarray(parts == chosen, np.bool_)


def fill_holes(mask: Mask, *, largest_px: int) -> Mask:
    """Fill holes of at most `largest_px` pixels."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    height, width = mask.shape
    small = stats[:, cv2.CC_STAT_AREA] <= largest_px
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    enclosed = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    fill = small & enclosed
    fill[0] = False  # component 0 is the mask itself
    return np.asarray(mask | fill[parts], np.bool_) if count > 1 else mask

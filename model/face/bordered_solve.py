"""Normal equations of a clip: a chain of frames that all share some unknowns, solved exactly.

    [ D_1  L_1         ; F_1 ] [ x_1 ]   [ g_1 ]
    [ L_1  D_2  L_2    ; F_2 ] [ x_2 ]   [ g_2 ]
    [      ...         ; ... ] [ ... ] = [ ... ]      L_t = -diag(links_t)
    [ F_1' F_2' ...    ; C   ] [ s   ]   [ g_s ]

Block elimination along the chain (a block Cholesky factorisation), then the Schur complement of the shared unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BorderedSystem:
    """T frames of P unknowns in a chain, and B unknowns that they share."""

    blocks: Array  # (T, P, P) symmetric
    links: Array  # (T - 1, P): what couples neighbours, subtracted off the diagonal
    border: Array  # (T, P, B)
    corner: Array  # (B, B)
    frame_gradient: Array  # (T, P)
    shared_gradient: Array  # (B,)


def solve_bordered(system: BorderedSystem, damping: float) -> tuple[Array, Array]:
    """The step that undoes the gradient, (T, P) and (B,); diagonals are raised by `damping` (Marquardt's scaling)."""
    links, border = system.links, system.border
    frames, size, shared = border.shape
    right = np.concatenate([border, -system.frame_gradient[:, :, None]], 2)  # both right-hand sides in one sweep
    index = np.arange(size)
    factors: list[tuple[Array, bool]] = []
    solution = np.empty_like(right)
    for t in range(frames):
        block = system.blocks[t].copy()
        block[index, index] *= 1 + damping
        if t:
            link = links[t - 1]
            block -= link[:, None] * cho_solve(factors[-1], np.diag(link))
            right[t] += link[:, None] * solution[t - 1]
        factors.append(cho_factor(block, lower=True))
        solution[t] = cho_solve(factors[-1], right[t])
    for t in range(frames - 2, -1, -1):
        solution[t] = cho_solve(factors[t], right[t] + links[t][:, None] * solution[t + 1])
    by_shared, alone = solution[:, :, :shared], solution[:, :, shared]
    damped = system.corner + damping * np.diag(np.diag(system.corner))
    schur = damped - np.tensordot(border, by_shared, ([0, 1], [0, 1]))
    reduced = -system.shared_gradient - np.tensordot(border, alone, ([0, 1], [0, 1]))
    shared_step = cho_solve(cho_factor(schur, lower=True), reduced)
    return alone - by_shared @ shared_step, shared_step

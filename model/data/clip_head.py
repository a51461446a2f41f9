"""A clip's FLAME or SMPL-X parameters as a part of its sample, when `prepare` is given a head folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from model.data.clip_types import Sample
from model.errors import DataError
from model.face.head_models import HeadModel, load_head_model
from model.face.head_pose import Intrinsics
from model.face.smplx_fit import HeadFit, PinholeCamera, fit_clip

HEAD_PART = "head.safetensors"


def fit_head(landmarks_px: NDArray[np.float32], camera: Intrinsics, folder: Path) -> bytes:
    """The part: identity for the clip, expression, jaw and head pose for each frame (see `HeadFit`)."""
    pinhole = PinholeCamera(fx=camera.fx_px, fy=camera.fy_px, cx=camera.cx_px, cy=camera.cy_px)
    fit = fit_clip(_model(folder), landmarks_px, pinhole)
    arrays = {
        "betas": fit.betas,
        "expression": fit.expression,
        "jaw_pose": fit.jaw_pose,
        "rotation": fit.rotation,
        "translation_m": fit.translation,
        "reprojection_px": fit.reprojection_px,
    }
    return save_tensors({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()})


def read_head(sample: Sample) -> HeadFit:
    """The fit stored with a sample.

    Raises:
        DataError: It was prepared without a head model, or is damaged.
    """
    if HEAD_PART not in sample.parts:
        raise DataError(f"sample {sample.key} holds no head fit; prepare again with --head-model DIR")
    try:
        arrays = {name: value.astype(np.float64) for name, value in load_tensors(sample.parts[HEAD_PART]).items()}
        return HeadFit(
            arrays["betas"],
            arrays["expression"],
            arrays["jaw_pose"],
            arrays["rotation"],
            arrays["translation_m"],
            arrays["reprojection_px"],
        )
    except (KeyError, SafetensorError) as error:
        raise DataError(
            f"the head fit of sample {sample.key} is damaged ({error!r}); prepare the data again"
        ) from error


@cache
def _model(folder: Path) -> HeadModel:
    """The head, read once per process and never changed."""
    return load_head_model(folder)

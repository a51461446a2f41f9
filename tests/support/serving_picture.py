"""Serving's picture of any view, to hold training's pictures against."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from model.motion.retarget import Retarget
from model.motion.space import load_motion_space
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.training.rendered_views import View


def serving_picture(renderer: AvatarRenderer, view: View, motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kernel's picture of a view: the whole picture's camera, scaled and shifted to its pixels."""
    avatar = renderer.avatar
    (pixel, _, left), (_, _, top) = view.to_picture
    size = 1 / pixel
    shown = Retarget.load(avatar.folder)(load_motion_space().clamp(motion))
    inputs = renderer.conditioner.frame_inputs(shown, HeadPose(), avatar.config.camera.size_px)
    scale = size / avatar.config.camera.size_px
    moved = dataclasses.replace(
        inputs,
        fx=inputs.fx * scale,
        fy=inputs.fy * scale,
        cx=inputs.cx * scale - left * size,
        cy=inputs.cy * scale - top * size,
        height=view.height_px,
        width=view.width_px,
    )
    return np.asarray(renderer.marcher.render(moved))

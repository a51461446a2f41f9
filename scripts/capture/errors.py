"""Errors of the capture script.

CaptureError
    HeadFileError       the ICT-FaceKit head is missing or is another mesh
    PlanError           a motion or plan file is missing, damaged or empty
    MissingBlenderError `bpy` or scikit-image is not there
    RenderError         Blender failed, the disk is full, or the folder belongs to another run
"""

from __future__ import annotations


class CaptureError(Exception):
    """Base: the message says what was wrong, the value, and what to do."""


class HeadFileError(CaptureError):
    """The head file is missing or is not ICT-FaceKit's light mesh."""


class PlanError(CaptureError):
    """A motion or plan file cannot be used."""


class MissingBlenderError(CaptureError):
    """Blender as a Python module, or what makes the clothes, is not installed."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"what renders is not installed ({reason}): "
            "pip install nerf-lipsync[capture] under Python 3.11 (bpy 4.2.0 has no other)"
        )


class RenderError(CaptureError):
    """Rendering cannot go on."""

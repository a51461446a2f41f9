"""What callers send, as pydantic models: bounded, and nothing unknown is passed over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ControlValues", "Offer", "Resume", "SessionChange", "SessionOffer", "Speech"]

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Angle = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Gaze = Annotated[float, Field(ge=-0.6, le=0.6, allow_inf_nan=False)]
Sdp = Annotated[str, Field(min_length=1, max_length=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ControlValues(_Strict):
    """What an avatar is asked to do while it speaks; what is left out stays as it is. Angles turn the head.

    `gaze_rad` is yaw to the avatar's left and pitch up, or null: gaze wanders. `background` is `own`, a color
    `#rrggbb`, or the id of a picture that the operator installed.
    """

    yaw_deg: Angle | None = None
    pitch_deg: Angle | None = None
    roll_deg: Angle | None = None
    gaze_rad: tuple[Gaze, Gaze] | None = None
    mood: Annotated[str, Field(max_length=32)] | None = None
    mood_strength: Share | None = None
    head_motion: Share | None = None
    idle: bool | None = None
    background: Annotated[str, Field(max_length=64)] | None = None
    background_blur: bool | None = None

    def given(self) -> dict[str, Any]:
        """What was sent; null is sent on for the gaze only."""
        values = self.model_dump(exclude_unset=True)
        return {name: value for name, value in values.items() if value is not None or name == "gaze_rad"}


class Offer(_Strict):
    """An SDP offer."""

    sdp: Sdp
    type: Literal["offer"] = "offer"


class SessionOffer(Offer):
    """An SDP offer with one audio section, one video section and the data channel `events`.

    `source`: whose sound moves the face: the offer's `microphone`, or `speech` that is pushed. `queue_ticket` keeps
    the place in the queue that a 503 gave. `room`: meet another caller there.
    """

    avatar: Name | None = None
    source: Literal["microphone", "speech"] = "microphone"
    controls: ControlValues = ControlValues()
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    room: Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    queue_ticket: Annotated[str, Field(max_length=64)] | None = None


class Resume(Offer):
    """An SDP offer in the place of the peer that a session had."""

    resume_token: Annotated[str, Field(min_length=1, max_length=128)]


class SessionChange(_Strict):
    """Other controls, or another avatar."""

    controls: ControlValues | None = None
    avatar: Name | None = None


class Speech(_Strict):
    """A text to say. `voice` is a family of /v1/voices, for espeak-ng with a language: `espeak-ng:de`."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]
    voice: Annotated[str, Field(max_length=64)] | None = None
    utterance: Annotated[str, Field(min_length=1, max_length=64)] | None = None

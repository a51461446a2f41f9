"""What a session was opened with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["SessionOptions", "Source"]

Source = Literal["microphone", "speech"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """`source` says where the sound comes from: the caller's microphone, or what an assistant pushes.

    `controls` are the values of `stream_server.engine.controls`; `seed` None draws one.
    """

    source: Source = "microphone"
    avatar: str
    controls: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None

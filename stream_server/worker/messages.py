"""What a caller asks of its session, whether by HTTP, data channel or WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_server.errors import ConflictError, RefusedError, StreamServerError
from stream_server.events import NoticeEvent

if TYPE_CHECKING:
    from stream_server.worker.place import Place

__all__ = ["MOST_TEXT", "carry_out", "refusal"]

MOST_TEXT = 4_000  # characters


async def carry_out(place: Place, message: dict[str, Any]) -> dict[str, Any]:
    """Do what `message` asks; returns what there is to answer.

    `control` {controls?, avatar?} · `interrupt` {} -> {cut} · `say` {text, voice?, utterance?} -> {utterance}.

    Raises:
        RefusedError: A field is missing, or of another type, or its value cannot be used.
        ConflictError: The session's sound is a microphone's.
        EngineLostError: There is no engine at the moment.
    """
    kind = message.get("type")
    if kind == "control":
        controls, avatar = message.get("controls"), message.get("avatar")
        if controls is not None and not isinstance(controls, dict):
            raise RefusedError(f"controls must be an object, got {type(controls).__name__}")
        if avatar is not None and not isinstance(avatar, str):
            raise RefusedError(f"avatar must be a name, got {type(avatar).__name__}")
        await place.session.change(controls, avatar)
        return {}
    if kind == "interrupt":
        if place.speaker is not None:
            return {"cut": place.speaker.interrupt()}
        return {"cut": place.session.interrupt()}
    if kind == "say":
        if place.speaker is None:
            raise ConflictError("this session speaks with a microphone's sound; open one with source 'speech'")
        return {"utterance": place.speaker.say(*_say_fields(message))}
    raise RefusedError(f"unknown message type {str(kind)[:40]!r}; known are control, interrupt, say")


def refusal(message: dict[str, Any], error: StreamServerError) -> NoticeEvent:
    """The notice that what `message` asks is not done; it names the utterance that its sender may wait for."""
    utterance = message.get("utterance")
    return NoticeEvent(code="refused", message=str(error), utterance=utterance if isinstance(utterance, str) else None)


def _say_fields(message: dict[str, Any]) -> tuple[str, str | None, str | None]:
    text, voice, utterance = message.get("text"), message.get("voice"), message.get("utterance")
    if not isinstance(text, str) or not text.strip():
        raise RefusedError("text must be a string with something to say")
    if len(text) > MOST_TEXT:
        raise RefusedError(f"text has {len(text)} characters; at most {MOST_TEXT} are said at once")
    for name, value in (("voice", voice), ("utterance", utterance)):
        if value is not None and (not isinstance(value, str) or len(value) > 64):
            raise RefusedError(f"{name} must be a string of at most 64 characters")
    return text, voice, utterance

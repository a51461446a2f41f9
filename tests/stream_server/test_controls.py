"""What callers ask of their avatar comes by data channel and WebSocket as any JSON: it is refused in words, or done."""

from __future__ import annotations

from typing import Any

import pytest

from model.errors import InputError
from stream_server.config import ServerConfig
from stream_server.engine import loading
from stream_server.engine.controls import ControlsMaker
from stream_server.errors import NotFoundError


@pytest.mark.parametrize("gaze", [5, [], [0.1], [0.1, 0.2, 0.3], {"yaw": 1}, [None, 0], [10**400, 0], "ab", [[0], [0]]])
def test_a_gaze_that_is_no_pair_of_numbers_is_refused(gaze: Any) -> None:
    """A number in its place ended the engine, and with it every call for a while."""
    with pytest.raises(ValueError, match=r"gaze_rad must be two numbers, \[yaw, pitch\], or null, got"):
        ControlsMaker({})({"gaze_rad": gaze})


@pytest.mark.parametrize(
    "values",
    [{"yaw_deg": "x"}, {"mood": {}}, {"yaw_deg": 10**400}, {"mood_strength": None}, {"ease_s": 1}, {"no": 1}],
)
def test_other_values_that_cannot_be_used_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, InputError)):
        ControlsMaker({})(values)


def test_a_gaze_is_taken() -> None:
    assert ControlsMaker({})({"gaze_rad": [0.25, -1 / 8]}).gaze_rad == (0.25, -0.125)
    assert ControlsMaker({})({"gaze_rad": None}).gaze_rad is None


def test_an_avatar_that_is_not_there_is_missed_with_those_that_are() -> None:
    loaded = loading.load(ServerConfig(pipeline="tests.stream_server.fake_pipeline:FakePipeline", step_ms=1.0))
    with pytest.raises(NotFoundError, match=r"there is no avatar 'nobody'; there is .*default"):
        loaded.shelf.require("nobody")
    assert loaded.shelf.require("default") is loaded.pipeline.shown

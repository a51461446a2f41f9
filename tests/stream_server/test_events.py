"""The data channel's messages, by the fixture that the browser's tests read as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from stream_server.errors import ProtocolError
from stream_server.events import Event, decode, encode

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "events.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["type"]))
def test_there_and_back(example: dict[str, object]) -> None:
    event = decode(json.dumps(example))
    assert json.loads(encode(event)) == example


def test_every_type_has_an_example() -> None:
    assert {example["type"] for example in EXAMPLES} == {kind.type for kind in get_args(Event)}


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"v": 2, "type": "ready"}',
        '{"v": 1, "type": "song"}',
        '{"v": 1, "type": "ready"}',
        '{"v": 1, "type": "error", "code": "x", "message": "y", "more": 1}',
    ],
)
def test_what_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode(text)

"""Requests made up from the server's own OpenAPI description, right and wrong ones: never an unhandled 5xx."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.stream_server.server_process import ServerProcess

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is in the extra dev: install it")

WAIT = {"busy", "not-ready"}
"""The documented reasons of a 503."""


def ask_all(server: ServerProcess, examples: int) -> Counter[tuple[str, int]]:
    """So many requests for every operation; answers by operation and status."""
    schema: Any = schemathesis.openapi.from_url(server.url + "/openapi.json")
    seen: Counter[tuple[str, int]] = Counter()
    for found in schema.get_all_operations():
        ask_one(found.ok(), examples, seen)
    return seen


def ask_one(operation: Any, examples: int, seen: Counter[tuple[str, int]]) -> None:
    """So many requests, as described and otherwise."""
    strategies = []
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        with contextlib.suppress(schemathesis.errors.InvalidSchema):
            strategies.append(operation.as_strategy(generation_mode=mode))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(strategies))
    def ask(case: Any) -> None:
        answer = case.call()
        seen[operation.label, answer.status_code] += 1
        if answer.status_code >= 500:
            assert answer.status_code == 503, (operation.label, answer.text[:500])
            assert answer.json()["code"] in WAIT, answer.text[:500]
            assert int(answer.headers["retry-after"][0]) >= 1

    ask()


def run(examples: int) -> Counter[tuple[str, int]]:
    with ServerProcess("--size", "128", "--offers-per-minute", "1000000", "--connect-timeout", "1") as server:
        before = server.children()
        seen = ask_all(server, examples)
        assert server.children() == before  # nobody had to be started again
        assert server.get("/healthz") == {"status": "alive"}
    assert len({label for label, _ in seen}) >= 20
    assert {200, 404, 422} <= {status for _, status in seen}
    return seen


@pytest.mark.slow
def test_no_made_up_request_is_an_unhandled_error() -> None:
    run(2)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_no_made_up_request_of_many_is_an_unhandled_error() -> None:
    run(300)

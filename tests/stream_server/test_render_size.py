"""Which way `render --size 512` takes by itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernels import native
from model.errors import InputError
from model.speech import encoder_graph
from stream_server.commands import render


@pytest.mark.parametrize(
    ("level", "device", "enlarged"),
    [("portable", "cpu", True), ("avx2i16", "cpu", False), ("portable", "cuda", False)],
)
def test_512_px_are_enlarged_only_where_the_field_would_be_slow(
    monkeypatch: pytest.MonkeyPatch, level: str, device: str, enlarged: bool
) -> None:
    monkeypatch.setattr(native, "cpu_info", lambda: SimpleNamespace(best=level))
    monkeypatch.setattr(encoder_graph, "best_device", lambda: device)
    assert render._upscaled("auto", 512) == enlarged
    assert render._upscaled("network", 512)
    assert not render._upscaled("direct", 512)
    assert not render._upscaled("auto", 256)
    with pytest.raises(InputError, match="got --size 256"):
        render._upscaled("network", 256)

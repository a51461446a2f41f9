"""Both marks: what is embedded is found again, and nothing where nothing is."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from model.errors import InputError
from model.provenance.invisible import InvisibleMark, detect
from model.provenance.payload import MarkPayload, decode_bits, encode_bits
from model.provenance.visible import MarkStyle, VisibleMark

PAYLOAD = MarkPayload(instance=654321, day=date(2026, 11, 27))


def picture() -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    noise = np.random.default_rng(0).normal(0, 2, (256, 256))
    return np.clip(120 + 60 * np.sin(x / 23) * np.cos(y / 31) + noise, 16, 235).astype(np.uint8)


def test_payload_survives_wrong_bits() -> None:
    soft = encode_bits(PAYLOAD).astype(float)
    soft[[3, 20, 41, 60, 77, 95]] *= -1
    assert decode_bits(soft) == PAYLOAD


def test_mark_is_found_where_it_is_and_nowhere_else() -> None:
    plain = picture()
    marked = plain.copy()
    InvisibleMark(PAYLOAD, height=256, width=256).embed(marked)
    error = np.mean((marked.astype(float) - plain) ** 2)
    assert 10 * np.log10(255**2 / error) >= 42
    assert detect(marked[13:243, 13:243].astype(float)).payload == PAYLOAD
    assert detect(plain.astype(float)).payload is None
    assert detect(marked.astype(float), key=b"another key, sixteen").payload is None


def test_label_stays_in_its_box() -> None:
    frame = np.full((384, 256), 128, np.uint8)
    label = VisibleMark(MarkStyle(), size=256, mouth_box=(0.35, 0.5, 0.65, 0.74))
    label.draw(frame)
    left, top, right, bottom = label.box
    assert np.ptp(frame[top:bottom, left:right]) > 100
    frame[top:bottom, left:right] = 128
    assert (frame == 128).all()
    with pytest.raises(InputError, match="opacity"):
        MarkStyle(opacity=0.0)

"""Both marks: what is embedded is found again, and nothing where nothing is."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from model.errors import InputError
from model.provenance.invisible import InvisibleMark
from model.provenance.mark_search import detect
from model.provenance.payload import MarkPayload, decode_bits, encode_bits
from model.provenance.visible import MarkStyle, VisibleMark

PAYLOAD = MarkPayload(instance=12_654_321, day=date(2026, 11, 27))


def picture() -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    noise = np.random.default_rng(0).normal(0, 2, (256, 256))
    return np.clip(120 + 60 * np.sin(x / 23) * np.cos(y / 31) + noise, 16, 235).astype(np.uint8)


def test_payload_survives_wrong_bits() -> None:
    soft = encode_bits(PAYLOAD).astype(float)
    soft[[3, 20, 41, 60, 77, 95]] *= -1
    assert decode_bits(soft) == PAYLOAD


def psnr(marked: np.ndarray, plain: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((marked.astype(float) - plain) ** 2)))


def marked_picture() -> np.ndarray:
    marked = picture()
    InvisibleMark(PAYLOAD, height=256, width=256).embed(marked)
    return marked


def test_mark_is_found_where_it_is_and_nowhere_else() -> None:
    plain = picture()
    marked = marked_picture()
    assert psnr(marked, plain) >= 42
    assert detect(marked[13:243, 13:243].astype(float)).payload == PAYLOAD
    assert detect(plain.astype(float)).payload is None
    assert detect(marked.astype(float), key=b"another key, sixteen").payload is None


@pytest.mark.parametrize(
    "scale", [0.6, *(pytest.param(scale, marks=pytest.mark.nightly) for scale in (0.75, 1.4)), 4.0]
)
def test_mark_is_found_in_resized_pictures_and_tells_their_scale(scale: float) -> None:
    from scipy.ndimage import zoom

    found = detect(zoom(marked_picture().astype(float), scale, order=1, grid_mode=True, mode="nearest"))
    assert found.payload == PAYLOAD
    assert found.scale == pytest.approx(scale, rel=0.01)


def test_mark_is_found_in_a_mirror() -> None:
    found = detect(marked_picture()[:, ::-1].astype(float))
    assert (found.payload, found.mirrored) == (PAYLOAD, True)


def test_mark_is_faint_on_smooth_parts_and_stronger_on_busy_ones() -> None:
    plain = np.full((256, 256), 128, np.uint8)
    plain[:, 128:] += np.random.default_rng(1).integers(0, 60, (256, 128), dtype=np.uint8)
    marked = plain.copy()
    InvisibleMark(PAYLOAD, height=256, width=256).embed(marked)
    added = marked.astype(float) - plain
    assert 0.4 < added[:, :120].std() < 0.8
    assert added[:, 136:].std() > 1.2


def test_mark_keeps_to_video_range() -> None:
    luma = np.random.default_rng(2).choice(np.array([0, 16, 235, 255], np.uint8), (66, 130))
    marked = luma.copy()
    InvisibleMark(PAYLOAD, height=66, width=130).embed(marked)
    assert np.abs(marked.astype(int) - np.clip(luma, 16, 235)).max() <= 14


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

"""The windower: any packet size gives the same hops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.media.windower import Hop, HopWindower


def sound(samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_any_packet_sizes_give_the_same_hops(sizes: list[int]) -> None:
    stream = sound(sum(sizes))
    windower = HopWindower(1280)
    hops: list[Hop] = []
    at = 0
    for size in sizes:
        hops += windower.push(stream[at : at + size])
        at += size
    assert [hop.index for hop in hops] == list(range(len(stream) // 1280))
    assert windower.position_samples == len(stream)
    for hop in hops:
        np.testing.assert_array_equal(hop.samples, stream[hop.index * 1280 : (hop.index + 1) * 1280])


def test_later_sound_does_not_change_a_hop_that_is_out() -> None:
    windower = HopWindower(4)
    (hop,) = windower.push(np.ones(4, np.float32))
    windower.push(np.zeros(4, np.float32))
    np.testing.assert_array_equal(hop.samples, np.ones(4))


def test_a_hop_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        HopWindower(0)

"""What a measuring caller might have noted, made up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_server.bench.latency import CallMeasures


def call(shown_s: list[float], av_offset_ms: list[float], repeated_s: Sequence[float] = ()) -> CallMeasures:
    """A record whose frames came at these moments after the first, repeated ones between them."""
    shown, offset, none = np.array(shown_s), np.array(av_offset_ms), np.zeros(0)
    return CallMeasures(
        latency_ms=np.full(len(shown), 200.0),
        first_ns=5_000_000_000,
        shown_s=shown,
        av_offset_ms=offset,
        av_offset_reports_ms=none,
        new_frame_gaps_ms=np.diff(shown) * 1e3,
        came_s=np.sort(np.concatenate([shown, np.array(repeated_s)])),
        fps=25.0,
        size=128,
        unread=0,
        repeated=0,
        skipped=0,
        offer_to_frame_s=0.3,
        offer_to_ready_s=0.2,
        video_bytes_per_s=1.0,
        sound_bytes_per_s=1.0,
        algorithmic_ms=140.0,
        microphone_late_p95_ms=0.0,
        traces=[],
    )

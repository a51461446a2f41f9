"""The encoder that benchmarks of the pipeline time as its last stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def new_encoder(size: int) -> Callable[[NDArray[np.uint8]], object]:
    """The server's VP8 encoder at the bit rate of a call."""
    from itertools import count

    from stream_server.config import ServerConfig
    from stream_server.media.video_encoder import CLOCK_HZ, PictureEncoder, kind_named

    bitrate_bps = ServerConfig().video_bitrate_bps * size**2 // 256**2
    codec, indices = PictureEncoder(kind_named("libvpx"), bitrate_bps), count()

    def encode(i420: NDArray[np.uint8]) -> object:
        index = next(indices)
        return codec.encode(i420, index * CLOCK_HZ // 25, key_frame=index == 0)

    return encode

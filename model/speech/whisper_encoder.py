"""Whisper's audio encoder on short windows: the package's own architecture, with the positional table cut to size.

Padding a window to Whisper's 30 s costs 18 to 47 times more; cutting the sinusoidal table to the window's tokens is
equal to the last bit at full length. All layers are returned: middle layers carry more articulation than the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from whisper.model import AudioEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Size of the encoder and of its window (tokens are 20 ms, two mel columns)."""

    num_mels: int = 80
    window_columns: int = 96
    width: int = 192
    num_heads: int = 3
    num_layers: int = 4

    @property
    def window_tokens(self) -> int:
        """Tokens in a window."""
        return self.window_columns // 2


class WindowedEncoder(nn.Module):
    """An `openai-whisper` AudioEncoder whose layers are all read."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(
            config.num_mels, config.window_tokens, config.width, config.num_heads, config.num_layers
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Layer outputs (B, layers + 1, tokens, width) of windows (B, mels, columns); the last is normalised."""
        encoder = self.encoder
        x = functional.gelu(encoder.conv1(mel))
        x = functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = x + encoder.positional_embedding[: x.shape[1]].to(x.dtype)
        states = [x]
        for block in encoder.blocks:
            x = block(x)
            states.append(x)
        states[-1] = encoder.ln_post(x)
        return torch.stack(states, 1)

"""Voice activity: Silero VAD's own weights (MIT, `silero-vad` package), with the state in the session's hands.

The package's own route is TorchScript with the state hidden in the module; its wheel also carries the weights as
safetensors, which are read here into the same layers: 32 ms of sound at a time behind 4 ms of what came before, a short
Fourier transform, four convolutions, one LSTM cell. It was trained on thousands of hours of real speech, music and
noise; our own encoder was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from model.errors import CheckpointError

CHUNK_SAMPLES = 512
CONTEXT_SAMPLES = 64
WEIGHTS = Path("data") / "silero_vad_16k.safetensors"
_HIDDEN = 128
_BINS = 129


@dataclass
class VoiceActivityState:
    """What a session remembers: samples short of a chunk, the chunk's context, the cell, the latest probability."""

    waiting: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    context: NDArray[np.float32] = field(default_factory=lambda: np.zeros(CONTEXT_SAMPLES, np.float32))
    cell: Tensor = field(default_factory=lambda: torch.zeros(2, _HIDDEN))  # hidden, cell
    probability: float = 0.0


class VoiceActivity(nn.Module):
    """Probability that somebody speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * _BINS, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(_BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, _HIDDEN)
        self.final_conv = nn.Conv1d(_HIDDEN, 1, 1)

    def forward(self, sound: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B,) of chunks (B, 576) with their context, and the cells (2, B, 128) after them."""
        x = self.stft_conv(functional.pad(sound, (0, CONTEXT_SAMPLES), "reflect")[:, None])
        x = torch.hypot(x[:, :_BINS], x[:, _BINS:])
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = functional.relu(layer(x))
        hidden, memory = self.lstm_cell(x.squeeze(-1), (cell[0], cell[1]))
        probability = torch.sigmoid(self.final_conv(functional.relu(hidden)[..., None])).flatten()
        return probability, torch.stack([hidden, memory])

    @torch.inference_mode()
    def advance(self, audio: Sequence[NDArray[np.float32]], states: Sequence[VoiceActivityState]) -> None:
        """Hear one hop of each session, side by side; changes the states.

        `probability` becomes the highest of the chunks that the hop completed, and stays where none was completed.
        """
        for part, state in zip(audio, states, strict=True):
            state.waiting = np.concatenate([state.waiting, part.astype(np.float32, copy=False)])
        fresh: dict[int, float] = {}
        while ready := [i for i, s in enumerate(states) if len(s.waiting) >= CHUNK_SAMPLES]:
            chosen = [states[i] for i in ready]
            sound = np.stack([np.concatenate([s.context, s.waiting[:CHUNK_SAMPLES]]) for s in chosen])
            found, cells = self(torch.from_numpy(sound), torch.stack([s.cell for s in chosen], 1))
            for row, (index, state) in enumerate(zip(ready, chosen, strict=True)):
                state.context = sound[row, -CONTEXT_SAMPLES:].copy()
                state.waiting = state.waiting[CHUNK_SAMPLES:]
                state.cell = cells[:, row].clone()
                fresh[index] = max(fresh.get(index, 0.0), float(found[row]))
        for index, value in fresh.items():
            states[index].probability = value


def load_voice_activity() -> VoiceActivity:
    """The package's weights.

    Raises:
        CheckpointError: The installed `silero-vad` has no such file, or another network.
    """
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise CheckpointError(WEIGHTS, "the package silero-vad is not installed: pip install silero-vad")
    path = Path(spec.origin).parent / WEIGHTS
    if not path.is_file():
        raise CheckpointError(path, "is missing: this silero-vad is too old; pip install 'silero-vad>=6.2.3'")
    model = VoiceActivity()
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise CheckpointError(path, f"holds another network than this program knows ({error})") from error
    return model.eval()

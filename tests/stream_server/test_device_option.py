"""`serve --device`: what it loads where, and plain words where there is no GPU."""

from __future__ import annotations

import pytest
import torch

from model.errors import ConfigError
from model.slots import devices
from model.slots.pipeline import SlotPipeline
from stream_server import doctor
from stream_server.config import ServerConfig
from stream_server.engine import loading
from stream_server.engine.streams import Stream
from stream_server.errors import ServerConfigError
from tests.support.made_speech import made_speech

WITHOUT_CUDA = "was built without CUDA: install a CUDA build of torch"


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a build of torch for the CPU."""
    monkeypatch.setattr(torch.version, "cuda", None)


@pytest.mark.usefixtures("no_cuda")
def test_cuda_without_a_gpu_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=f"device cuda cannot be used: .*{WITHOUT_CUDA}; nerf-lipsync doctor"):
        loading.load(ServerConfig(device="cuda", size=128))


def test_each_lack_of_a_gpu_has_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "nvidia-smi" in devices.gpu_problem()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert devices.gpu_problem() == "Tesla T4 has compute capability 7.5; the kernels need 8.0 or newer"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert devices.gpu_problem() == ""
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert devices.gpu_problem().startswith("triton is not installed")


@pytest.mark.usefixtures("no_cuda")
def test_doctor_says_what_a_gpu_lacks() -> None:
    finding = next(f for f in doctor.diagnose(data_folder=None, measure=False) if f.name == "serve --device cuda")
    assert finding.state == "note"
    assert f"was built without CUDA: {finding.remedy}" == WITHOUT_CUDA and finding.found.endswith("without CUDA")


def test_another_device_is_refused() -> None:
    with pytest.raises(ServerConfigError, match=r"device must be one of \('auto', 'cpu', 'cuda'\), got 'tpu'"):
        ServerConfig(device="tpu")


def test_what_cuda_loads_is_driven_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of loading, with the CPU in the GPU's place: measured, described, kept, rewound, interrupted."""
    monkeypatch.setattr(devices, "require_gpu", lambda: torch.device("cpu"))
    loaded = loading.load(ServerConfig(device="cuda", size=128, exact_size=True, step_ms=10.0))
    pipeline = loaded.pipeline
    assert isinstance(pipeline, SlotPipeline) and loaded.most_hops == 32
    assert loading.describe(loaded)["size"] == 128
    stream = Stream(0, 3, loaded.make_controls({"mood": "smile"}), rewindable=True, next_hop=0)
    stream.begin(pipeline.new_state(3))
    heard = made_speech(0.6)[: 3 * 1280].reshape(3, 1280)
    made = []
    for hop in (0, 1, 2):
        stream.keep(hop)
        made.append(pipeline.step(heard[hop][None], [stream.controls], [stream.state])[0])
    assert [len(output.frames) for output in made] == [0, 2, 2]
    assert loaded.describe_motion(made[1]).shape == (2, 55)
    assert stream.rewind(generation=1, hop=1)
    again = pipeline.step(heard[1][None], [stream.controls], [stream.state])[0]
    assert again.first_frame == made[1].first_frame == 0

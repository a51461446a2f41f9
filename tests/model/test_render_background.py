"""`render` before other backgrounds and before none: colors, pictures, and alpha that survives its file."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.motion.space import MOTION_SIZE
from model.radiance.camera import HeadPose
from model.radiance.compositor import Background
from model.radiance.serving import AvatarRenderer
from model.video_writing import FolderWriter, partial_path
from stream_server.cli import main

pytestmark = pytest.mark.usefixtures("weights_once")
SIZE = 64
CORNER = (slice(1, 8), slice(1, 8))  # top left: background in any pose
REST = np.zeros(MOTION_SIZE, np.float32)


@pytest.fixture(scope="module")
def silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(2 * 4800))
    return path


def render(audio: Path, out: Path, *extra: str) -> int:
    given = ["--size", str(SIZE), "--threads", "1", "--no-visible-mark", "--no-invisible-mark"]
    return main(["render", "--audio", str(audio), "--out", str(out), *given, *extra])


def rgb(path: Path) -> NDArray[np.float64]:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(float)


def rgba(path: Path) -> NDArray[np.float64]:
    """All frames with alpha; FFmpeg's own VP9 decoder leaves it out, so another one is asked."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
        return np.stack([f.reformat(format="rgba").to_ndarray() for f in frames]).astype(float)


def cut_out_alpha() -> NDArray[np.uint8]:
    renderer = AvatarRenderer(load_avatar(), size_px=SIZE)
    return renderer.cut_out(renderer.render_head(REST, HeadPose()), HeadPose())[1]


@pytest.mark.parametrize("color", [(0, 160, 0), (10, 20, 200)])
def test_what_is_cut_out_and_laid_over_a_color_is_what_is_rendered_before_it(color: tuple[int, int, int]) -> None:
    renderer, pose = AvatarRenderer(load_avatar(), size_px=128), HeadPose(yaw_deg=10)
    head = renderer.render_head(REST, pose).copy()
    wanted = renderer.composite(head, Background(top=color, bottom=color), pose).copy()
    straight, alpha = renderer.cut_out(head, pose)
    shown = av.VideoFrame.from_ndarray(straight, format="yuv420p").to_ndarray(format="rgb24").astype(float)
    share = alpha[..., None] / 255
    laid = share * shown + (1 - share) * np.array(color)
    difference = np.abs(laid - av.VideoFrame.from_ndarray(wanted, format="yuv420p").to_ndarray(format="rgb24"))
    assert difference.mean() < 1.6 and np.quantile(difference, 0.95) < 16  # rounding, chroma at the border


def test_alpha_is_all_or_nothing_but_for_the_border() -> None:
    alpha = cut_out_alpha()
    assert (alpha[CORNER] == 0).all() and alpha[SIZE // 2, SIZE // 2] == 255
    assert 0.2 < (alpha == 255).mean() < 0.9
    assert ((alpha > 8) & (alpha < 247)).mean() < 0.15


def test_a_color_stands_behind_the_avatar(tmp_path: Path, silence: Path) -> None:
    assert render(silence, tmp_path / "o.mp4", "--background", "#20C040") == 0
    corner = rgb(tmp_path / "o.mp4")[:, *CORNER].reshape(-1, 3)
    assert np.abs(corner - (0x20, 0xC0, 0x40)).max() < 8


def test_a_picture_stands_behind_the_avatar_sharp_or_blurred(tmp_path: Path, silence: Path) -> None:
    board = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16)))[..., None] * np.full(3, 255.0)
    cv2.imwrite(str(tmp_path / "board.png"), board.astype(np.uint8))
    spread = {}
    for name, extra in (("sharp", ()), ("blurred", ("--background-blur",))):
        assert render(silence, tmp_path / f"{name}.mp4", "--background", str(tmp_path / "board.png"), *extra) == 0
        spread[name] = rgb(tmp_path / f"{name}.mp4")[0, :16, :24].std()
    assert spread["sharp"] > 100 and spread["blurred"] < 0.9 * spread["sharp"]


@pytest.mark.parametrize("name", ["o.mov", "o.webm"])
def test_transparent_video_keeps_its_alpha_and_its_sound(tmp_path: Path, silence: Path, name: str) -> None:
    assert render(silence, tmp_path / name, "--transparent") == 0
    frames = rgba(tmp_path / name)
    assert frames.shape == (8, SIZE, SIZE, 4)
    assert (frames[:, *CORNER, 3] <= 1).all() and frames[:, SIZE // 2, SIZE // 2, 3].min() >= 254
    assert np.abs(frames[0, ..., 3] - cut_out_alpha()).mean() < 4  # the head moves a little by itself
    assert frames[:, SIZE // 2, SIZE // 2, :3].max() > 60
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.audio[0].rate == 48_000
        assert "synthetic" in container.metadata.get("comment", container.metadata.get("COMMENT", "")).lower()
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_transparent_pictures_lie_in_a_folder_with_their_sound(tmp_path: Path, silence: Path) -> None:
    assert render(silence, tmp_path / "frames", "--transparent") == 0
    files = sorted((tmp_path / "frames").glob("*.png"))
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(8)]
    first = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert first.shape == (SIZE, SIZE, 4) and (first[..., 3][CORNER] == 0).all()
    assert first[SIZE // 2, SIZE // 2, 3] == 255
    with wave.open(str(tmp_path / "frames" / "sound.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (48_000, 14_400)
    assert "Synthetic" in (tmp_path / "frames" / "README.txt").read_text()
    assert render(silence, tmp_path / "frames", "--transparent") == 2  # never replaced


def test_the_label_is_opaque_where_the_avatar_is_not(tmp_path: Path, silence: Path) -> None:
    given = ["render", "--audio", str(silence), "--size", "128", "--no-invisible-mark", "--transparent"]
    assert main([*given, "--out", str(tmp_path / "frames")]) == 0
    with_label = cv2.imread(str(tmp_path / "frames" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert main([*given, "--no-visible-mark", "--out", str(tmp_path / "bare")]) == 0
    bare = cv2.imread(str(tmp_path / "bare" / "000000.png"), cv2.IMREAD_UNCHANGED)
    changed = np.argwhere(np.abs(with_label[..., :3].astype(int) - bare[..., :3]).max(2) > 20)
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    assert top > 100 and left > 64  # the bottom right corner
    assert (with_label[top:bottom, left:right, 3] == 255).all()


@pytest.mark.parametrize(
    ("extra", "name", "said"),
    [
        (("--background", "blue"), "o.mp4", "#rrggbb"),
        (("--background", "#12345"), "o.mp4", "six digits"),
        (("--background", "#123456", "--background-blur"), "o.mp4", "only a picture can be blurred"),
        (("--transparent",), "o.mp4", "ProRes 4444"),
        (("--transparent", "--background", "#123456"), "o.mov", "leave --background"),
    ],
)
def test_what_cannot_stand_behind_an_avatar_is_one_line(
    tmp_path: Path, silence: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], name: str, said: str
) -> None:
    assert render(silence, tmp_path / name, *extra) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and said in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_background_file_that_is_no_picture_is_named(
    tmp_path: Path, silence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    assert render(silence, tmp_path / "o.mp4", "--background", str(tmp_path / "notes.png")) == 2
    assert "background notes cannot be read" in capsys.readouterr().err


def test_pictures_of_a_rendering_that_was_killed_are_not_in_the_way(tmp_path: Path) -> None:
    """The next one was refused ("cannot make the folder"), and would have kept them beside its own."""
    folder = partial_path(tmp_path / "frames", transparent=True)
    folder.mkdir()
    (folder / "000042.png").write_bytes(b"of the one that was killed")
    with FolderWriter(folder, 64, np.zeros(1920, np.float32)) as writer:
        writer.write(np.full((96, 64), 128, np.uint8))
    assert sorted(file.name for file in folder.iterdir()) == ["000000.png", "README.txt", "sound.wav"]

"""Data-set readers: layouts found, keys, splits, speakers, words, lists, samples, and clear words for wrong layouts."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from model.data.clip_lists import make_keys, sample_clips
from model.data.clip_types import ClipSource
from model.data.grid import Word, list_grid, read_alignment, spelled_sentence
from model.data.lrw import list_lrw, read_duration
from model.data.video_folder import list_videos
from model.data.voxceleb2 import list_voxceleb2
from model.errors import DataError

ALIGNMENT = "0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 74500 sil\n"


def touch(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def check_keys(clips: list[ClipSource]) -> list[str]:
    keys = [clip.key for clip in clips]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in keys), keys
    return keys


# GRID


def test_grid_with_alignments_beside(tmp_path: Path) -> None:
    touch(tmp_path, "train/bbaf3s.mp4", "train/lrwp9a.mp4", "valid/pwij3p.mpg", "train/._junk.mp4")
    touch(tmp_path, "train/bbaf3s.align", text=ALIGNMENT)
    clips = list_grid(tmp_path)
    assert check_keys(clips) == ["train_bbaf3s", "train_lrwp9a", "valid_pwij3p"]
    assert [clip.split for clip in clips] == ["train", "train", "val"]
    assert clips[0].text == "bin blue" and len(clips[0].words) == 4
    assert clips[0].words[1] == Word(text="bin", start_frame=23.75, end_frame=29.5)
    assert clips[1].text == "lay red with p nine again" and clips[1].words == ()
    assert clips[0].video == tmp_path / "train/bbaf3s.mp4" and clips[0].audio is None


def test_grid_as_distributed_speaker_folders_and_align_folders(tmp_path: Path) -> None:
    touch(tmp_path, "s1/video/bbaf3s.mpg", "s22/video/bbaf3s.mpg", "s3/sbia1a.mpg", "s4_processed/lbax4n.mpg")
    touch(tmp_path, "s1/align/bbaf3s.align", text=ALIGNMENT)
    touch(tmp_path, "alignments/s22/bbaf3s.align", text=ALIGNMENT.replace("blue", "red"))
    touch(tmp_path, "align/sbia1a.align", text=ALIGNMENT.replace("blue", "green"))
    clips = {clip.key: clip for clip in list_grid(tmp_path)}
    assert list(clips) == ["s1_video_bbaf3s", "s22_video_bbaf3s", "s3_sbia1a", "s4_processed_lbax4n"]
    assert [clip.speaker for clip in clips.values()] == ["s1", "s22", "s3", "s4"]
    texts = [clip.text for clip in clips.values()]
    assert texts == ["bin blue", "bin red", "bin green", "lay blue at x four now"]


def test_grid_speaker_from_the_folder_given(tmp_path: Path) -> None:
    touch(tmp_path, "grid_s7/a.mp4", "grid_s7/a.mpg")
    clips = list_grid(tmp_path / "grid_s7")
    assert check_keys(clips) == ["a-mp4", "a-mpg"] and {clip.speaker for clip in clips} == {"s7"}
    assert [clip.text for clip in clips] == ["", ""]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("brbk7n", "bin red by k seven now"),
        ("lwbsza", "lay white by s zero again"),
        ("SBIA1A", "set blue in a one again"),
        ("brbw7n", ""),  # W is not in the grammar
        ("brbk0n", ""),
        ("brbk7", ""),
        ("interview", ""),
    ],
)
def test_sentence_spelled_by_a_name(name: str, sentence: str) -> None:
    assert spelled_sentence(name) == sentence


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 100 sil\n100 bin\n", 2),
        ("0 100 sil\n\n100 2x0 bin\n", 3),
        ("0 -5 sil\n", 1),
        ("500 100 sil\n", 1),
        ("0 900 sil\n900 950 bin\n100 990 at\n", 3),
        ("0 100 two words\n", 1),
    ],
)
def test_damaged_alignment(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "a.align"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_alignment(path)
    assert f"a.align:{line}: " in str(caught.value) and repr(text.splitlines()[line - 1]) in str(caught.value)


def test_alignment_that_is_no_text_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.align"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="not text"):
        read_alignment(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no words"):
        read_alignment(path)


def test_real_grid_names_spell_their_alignments(data_folder: Path) -> None:
    clips = list_grid(data_folder / "grid_s1")
    assert len(check_keys(clips)) == 547 and {clip.speaker for clip in clips} == {"s1"}
    assert Counter(clip.split for clip in clips) == {"train": 505, "val": 42}
    assert all(clip.words and clip.text == spelled_sentence(clip.video.stem) for clip in clips)
    others = list_grid(data_folder / "grid_others")
    assert len(others) == 7 and all(len(clip.text.split()) == 6 and clip.speaker == "" for clip in others)


# VoxCeleb2


@pytest.fixture
def voxceleb(tmp_path: Path) -> Path:
    root = tmp_path / "vox"
    for name in (
        "dev/{}/id00012/21Uxsk56VDQ/00001",
        "dev/{}/id00012/2DLq_Kkc1r8/00016",
        "test/{}/id00017/-abc_D-1234/00003",
    ):
        touch(root, name.format("mp4") + ".mp4", name.format("aac") + ".m4a")
    touch(root, "test/mp4/id00017/-abc_D-1234/00004.mp4", "test/mp4/readme.txt", "test/mp4/id00017/x/notes.mp4")
    return root


def test_voxceleb_tree(voxceleb: Path) -> None:
    clips = list_voxceleb2(voxceleb)
    assert check_keys(clips) == [
        "id00012_21Uxsk56VDQ_00001",
        "id00012_2DLq_Kkc1r8_00016",
        "id00017_-abc_D-1234_00003",
        "id00017_-abc_D-1234_00004",
    ]
    assert [clip.split for clip in clips] == ["dev", "dev", "test", "test"]
    assert [clip.speaker for clip in clips] == ["id00012", "id00012", "id00017", "id00017"]
    assert clips[0].audio == voxceleb / "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
    assert clips[3].audio is None
    assert list_voxceleb2(voxceleb, split="test") == clips[2:]
    assert list_voxceleb2(voxceleb / "test") == clips[2:]


@pytest.mark.parametrize(
    "lines",
    [
        "id00012/2DLq_Kkc1r8/00016\nid00017/-abc_D-1234/00004.mp4\n",
        "# test list\n\n/data/vox2/dev/mp4/id00012/2DLq_Kkc1r8/00016.mp4 0\ntest/mp4/id00017/-abc_D-1234/00004 1\n",
        "id00012/2DLq_Kkc1r8/00016 id00017/-abc_D-1234/00004\nid00017/-abc_D-1234/00004 id00012/2DLq_Kkc1r8/00016\n",
    ],
)
def test_voxceleb_lists(voxceleb: Path, lines: str) -> None:
    (voxceleb / "list.txt").write_text(lines)
    clips = list_voxceleb2(voxceleb, list_file=voxceleb / "list.txt")
    assert check_keys(clips) == ["id00012_2DLq_Kkc1r8_00016", "id00017_-abc_D-1234_00004"]


def test_voxceleb_lists_that_are_damaged(voxceleb: Path) -> None:
    path = voxceleb / "list.txt"
    for text, words in (
        ("id00012/2DLq_Kkc1r8/00016\nid12/foo\n", "list.txt:2: "),
        ("id00012/2DLq_Kkc1r8/00016 0 1\n", "list.txt:1: "),
        ("\n", "names no clips"),
        ("id00012/2DLq_Kkc1r8/00016\nid00099/2DLq_Kkc1r8/00016\n", "1 of 2 clips"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=re.escape(words)):
            list_voxceleb2(voxceleb, list_file=path)
    path.write_bytes(b"\x80\x81")
    with pytest.raises(DataError, match="not text"):
        list_voxceleb2(voxceleb, list_file=path)
    with pytest.raises(DataError, match="no such list file"):
        list_voxceleb2(voxceleb, list_file=voxceleb / "none.txt")


# LRW


def test_lrw_tree_words_and_lists(tmp_path: Path) -> None:
    touch(tmp_path, "lipread_mp4/ABOUT/train/ABOUT_00001.mp4", "lipread_mp4/ABOUT/test/ABOUT_00002.mp4")
    touch(tmp_path, "lipread_mp4/WORLD/val/WORLD_00010.mp4", "lipread_mp4/WORLD/val/ABOUT_00010.mp4")
    metadata = "Disk reference: 6\nChannel: BBC1 HD\nProgram start: 2012\nDuration: 0.56 seconds\n"
    touch(tmp_path, "lipread_mp4/ABOUT/train/ABOUT_00001.txt", text=metadata)
    clips = list_lrw(tmp_path)
    assert check_keys(clips) == ["ABOUT_test_ABOUT_00002", "ABOUT_train_ABOUT_00001", "WORLD_val_WORLD_00010"]
    assert [clip.split for clip in clips] == ["test", "train", "val"]
    assert [clip.text for clip in clips] == ["about", "about", "world"]
    (word,) = clips[1].words
    assert (word.text, word.start_frame, word.end_frame) == ("about", pytest.approx(7.5), pytest.approx(21.5))
    assert clips[0].words == ()
    assert list_lrw(tmp_path / "lipread_mp4", split="val") == clips[2:]
    touch(tmp_path, "list.txt", text="ABOUT/train/ABOUT_00001\nlrw/WORLD/val/WORLD_00010.mp4 0\n")
    assert list_lrw(tmp_path, list_file=tmp_path / "list.txt") == clips[1:]


@pytest.mark.parametrize("line", ["Duration: long", "Duration: 0 seconds", "Duration: 2.5 seconds", "duration:"])
def test_damaged_lrw_duration(tmp_path: Path, line: str) -> None:
    touch(tmp_path, "a.txt", text=f"Channel: BBC\n{line}\n")
    with pytest.raises(
        DataError, match=re.escape(f"a.txt:2: wanted a line like 'Duration: 0.53 seconds', got {line!r}")
    ):
        read_duration(tmp_path / "a.txt")


def test_lrw_metadata_without_a_duration(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", text="Channel: BBC\n")
    with pytest.raises(DataError, match="no line 'Duration"):
        read_duration(tmp_path / "a.txt")


# Plain videos


def test_plain_videos_from_files_and_folders(tmp_path: Path) -> None:
    touch(tmp_path, "in/Ä clip (1).MP4", "in/deep/b.mkv", "in/notes.txt", "in/.hidden.mp4", "odd name.video")
    clips = list_videos([tmp_path / "in", tmp_path / "odd name.video", tmp_path / "in/deep/b.mkv"])
    assert check_keys(clips) == ["A-clip-1", "deep_b", "odd-name"]
    assert check_keys(list_videos(tmp_path / "in")) == ["A-clip-1", "deep_b"]
    assert list_videos(tmp_path / "in/deep/b.mkv")[0].key == "b"


def test_plain_videos_with_the_same_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/take.mp4", "b/take.mp4", "b/take.mov")
    clips = list_videos([tmp_path / "a", tmp_path / "b"])
    assert check_keys(clips) == ["a_take-mp4", "b_take-mov", "b_take-mp4"]
    assert len(check_keys(list_videos([tmp_path / "a/take.mp4", tmp_path / "b/take.mp4"]))) == 2


def test_keys_that_would_clash_are_told_apart_in_any_order() -> None:
    names = ["x/a b", "x/a+b", "X/A-B", "日本", "한국", "plain", "long" * 60]
    keys = make_keys(names)
    assert len({key.casefold() for key in keys}) == len(keys) and keys[5] == "plain"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,130}", key) for key in keys)
    assert make_keys(names[::-1])[::-1] == keys
    with pytest.raises(DataError, match="named twice"):
        make_keys(["a", "a"])


# Wrong layouts and samples


@pytest.mark.parametrize("read", [list_grid, list_voxceleb2, list_lrw, list_videos])
def test_wrong_layouts_say_what_was_looked_for_and_found(tmp_path: Path, read) -> None:
    with pytest.raises(DataError, match="no such"):
        read(tmp_path / "none")
    touch(tmp_path, "data/pictures/a.png", "data/readme.md")
    with pytest.raises(DataError, match=r"found pictures/, readme\.md") as caught:
        read(tmp_path / "data")
    assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found nothing"):
        read(tmp_path / "empty")


def test_unknown_split_is_named(voxceleb: Path) -> None:
    with pytest.raises(DataError, match="'train'"):
        list_voxceleb2(voxceleb, split="train")
    with pytest.raises(DataError, match="'dev'"):
        list_lrw(voxceleb, split="dev")


def test_samples_are_stable_and_spread_over_speakers() -> None:
    counts = {"a": 50, "b": 3, "c": 20, "d": 1}
    clips = [
        ClipSource(key=f"{speaker}{n:03d}", video=Path(f"{speaker}{n}.mp4"), speaker=speaker)
        for speaker, count in counts.items()
        for n in range(count)
    ]
    chosen = sample_clips(clips, 16, seed=5)
    assert len(check_keys(chosen)) == 16
    assert Counter(clip.speaker for clip in chosen) == {"a": 6, "b": 3, "c": 6, "d": 1}
    shuffled = random.Random(0).sample(clips, len(clips))
    assert sample_clips(shuffled, 16, seed=5) == chosen
    assert sample_clips(clips, 16, seed=6) != chosen
    assert set(sample_clips(clips, 8, seed=5)) <= set(chosen)  # a smaller choice is part of a larger one
    with pytest.raises(DataError, match="75 of 74"):
        sample_clips(clips, 75, seed=5)

"""Data sets whose pictures are videos, as LeRobot writes them: the right picture for every frame, and clear faults."""

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dream_env.agents import subsample
from dream_env.data import columns
from dream_env.data.episodes import EpisodeDataset

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'dream_env[video]'")

LENGTHS, FPS = (4, 6, 5), 10
FILES = ((0, 1), (2,))
"""Episodes in every video file."""
TOP = "videos/observation.images.top/chunk-000/file-000.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def picture(episode: int, frame: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A square that moves, on a ground whose color tells the episode."""
    image = np.full((height, width, 3), (40 + 80 * episode, 30 + 25 * frame, 100), np.uint8)
    image[8:20, 4 * frame : 4 * frame + 12] = (250, 250, 30)
    return image


def film(path: Path, images: list[np.ndarray], fps: int = FPS, skip: tuple[int, ...] = (), front: bool = False) -> None:
    """Writes a video; pictures in `skip` are left out, and time goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if front else {}
    with av.open(str(path), "w", options=options) as out:
        stream = out.add_stream("libx264", fps, options={"g": "2", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        stream.time_base = Fraction(1, 10_000)
        for number, image in enumerate(images):
            if number not in skip:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number * 10_000 // fps, stream.time_base
                out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `LeRobotDataset.create(..., use_videos=True)` of lerobot 0.4.4 leaves: two cameras, one beside pictures."""
    root, total = tmp_path / "filmed", sum(LENGTHS)
    for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
        (root / folder).mkdir(parents=True)
    frame, episode = np.concatenate([np.arange(n) for n in LENGTHS]), np.repeat([0, 1, 2], LENGTHS)
    columns = {
        "observation.state": [[float(e), float(t)] for e, t in zip(episode, frame, strict=True)],
        "action": [[0.1 * i] * 2 for i in range(total)],
        "timestamp": (frame / FPS).astype(np.float32),
        "frame_index": frame,
        "episode_index": episode,
        "index": np.arange(total),
        "task_index": np.zeros(total, int),
    }
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    cameras = {"top": (32, 48), "wrist": (24, 32)}
    rows = {
        "episode_index": [0, 1, 2],
        "tasks": [["do this"]] * 3,
        "length": list(LENGTHS),
        "data/chunk_index": [0] * 3,
        "data/file_index": [0] * 3,
    }
    for name, size in cameras.items():
        for number, held in enumerate(FILES):
            images = [picture(e, t, *size) for e in held for t in range(LENGTHS[e])]
            film(root / f"videos/observation.images.{name}/chunk-000/file-{number:03d}.mp4", images, front=number == 0)
        rows |= {
            f"videos/observation.images.{name}/chunk_index": [0, 0, 0],
            f"videos/observation.images.{name}/file_index": [0, 0, 1],
            f"videos/observation.images.{name}/from_timestamp": [0.0, 0.4, 0.0],
            f"videos/observation.images.{name}/to_timestamp": [0.4, 1.0, 0.5],
        }
    pq.write_table(pa.table(rows), root / EPISODES)
    features = {
        f"observation.images.{name}": {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]}
        for name, size in cameras.items()
    }
    features["observation.state"] = {"dtype": "float32", "shape": [2], "names": None}
    features["action"] = {"dtype": "float32", "shape": [2], "names": None}
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in list(columns)[2:]}
    info = {"codebase_version": "v3.0", "robot_type": "arm", "total_episodes": 3, "total_frames": total, "fps": FPS}
    path = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    (root / "meta/info.json").write_text(json.dumps(info | {"video_path": path, "features": features}))
    return root


def test_every_frame_gets_its_own_picture(root: Path) -> None:
    data = EpisodeDataset.load(root)
    assert data.spec.observation["top"].shape == (32, 48, 3) and set(data.spec.pictures) == {"top", "wrist"}
    for e, length in enumerate(LENGTHS):
        shown = data[e].observation
        assert shown["state"].tolist() == [[e, t] for t in range(length)]
        for t in range(length):
            for name, size in (("top", (32, 48)), ("wrist", (24, 32))):
                # The codec costs a few levels; a neighboring frame differs by 25 of them all over the ground.
                assert np.abs(shown[name][t].astype(int) - picture(e, t, *size)).mean() < 6, (name, e, t)


def test_pictures_are_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = EpisodeDataset.load(root)
    monkeypatch.setattr(av, "open", lambda *_: pytest.fail("decoded anew"))
    again = EpisodeDataset.load(root)
    assert np.array_equal(first.observation["top"], again.observation["top"])
    monkeypatch.undo()
    film(root / TOP, [picture(0, 5)] * 10)
    assert not np.array_equal(first.observation["top"], EpisodeDataset.load(root).observation["top"])


def test_every_second_picture_is_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "slow"
    subsample.main(subsample.Arguments(root, 2, out))
    data, old = EpisodeDataset.load(out), EpisodeDataset.load(root)
    assert data.spec.control_hz == FPS / 2 and json.loads((out / "meta/info.json").read_text())["fps"] == FPS / 2
    for i, length in enumerate(LENGTHS):
        for name in ("top", "wrist"):
            shown = data[i].observation[name]
            assert len(shown) == (length + 1) // 2
            np.testing.assert_array_equal(shown, old[i].observation[name][::2])


def test_large_pictures_are_reduced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = EpisodeDataset.load(root)[2].observation
    monkeypatch.setenv("DREAM_ENV_PICTURE_SIDE", "24")
    data = EpisodeDataset.load(root)
    assert data.spec.shapes["top"] == (16, 24, 3) and data.spec.shapes["wrist"] == (18, 24, 3)
    shown = data[2].observation["top"]
    means = whole["top"].reshape(5, 16, 2, 24, 2, 3).mean((2, 4))  # of the pixels that a new one covers
    assert shown.shape == (5, 16, 24, 3) and np.abs(shown - means).mean() < 2
    monkeypatch.setenv("DREAM_ENV_PICTURE_SIDE", "half")
    with pytest.raises(ValueError, match="DREAM_ENV_PICTURE_SIDE=half; accepted: a whole number from 8 on"):
        EpisodeDataset.load(root)
    again = EpisodeDataset.load(root, spec=data.spec)  # the spec says the size
    assert np.array_equal(again[2].observation["top"], shown)
    monkeypatch.delenv("DREAM_ENV_PICTURE_SIDE")
    monkeypatch.setattr(columns, "SIDE", 24)
    assert EpisodeDataset.load(root).spec.shapes == data.spec.shapes


def test_cameras_that_are_decoded_stay_so_after_an_interruption(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = av.open, []

    def once(path: str) -> Any:
        opened.append(path)
        if sum("images.wrist" in each for each in opened) == 1:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(av, "open", once)
    with pytest.raises(KeyboardInterrupt):
        EpisodeDataset.load(root)
    before = len(opened)
    EpisodeDataset.load(root)
    assert [path for path in opened[before:] if "images.top" in path] == []


def test_chosen_episodes_do_not_copy_pictures(root: Path) -> None:
    data = EpisodeDataset.load(root)
    every = np.asarray(data.observation["top"])
    for whole in (data, data.take(np.array([2, 0, 1]))):
        for rows in ([0, 2], [1, 0], [1, 1], [2], []):
            part = whole.take(np.array(rows, int))
            shown = part.observation["top"]
            assert np.array_equal(
                np.asarray(shown), np.concatenate([every[:0], *(whole[i].observation["top"] for i in rows)])
            )
            assert all(np.shares_memory(each, every) for each in getattr(shown, "parts", [shown]) if len(each))


def test_depth_maps_are_not_read(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.wrist"] |= {"shape": [24, 32, 1], "info": {"is_depth_map": True}}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert EpisodeDataset.load(root).spec.pictures == ("top",)


def test_without_pyav_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"file-000.mp4 is a video, .*: pip install 'dream_env\[video\]'"):
        EpisodeDataset.load(root)


def truncated(root: Path) -> None:
    path = root / TOP  # its index comes first, so that the beginning can still be read
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def headless(root: Path) -> None:
    path = root / TOP.replace("000.mp4", "001.mp4")  # its index comes last
    path.write_bytes(path.read_bytes()[:-300])


def columns_lost(root: Path) -> None:
    table = pq.read_table(root / EPISODES)
    pq.write_table(table.drop_columns(["videos/observation.images.top/from_timestamp"]), root / EPISODES)


def path_unknown(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"video_path": None}))


IMAGES = [picture(e, t) for e in (0, 1) for t in range(LENGTHS[e])]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, r"file-000.mp4 (ends after \d+ pictures, at .* s; accepted: one at|cannot be decoded after \d)"),
        (headless, r"file-001.mp4 cannot be decoded after 0 pictures"),
        (lambda root: (root / TOP).write_text("no film"), r"file-000.mp4 cannot be decoded after 0 pictures"),
        (lambda root: (root / TOP).unlink(), r"file-000.mp4: no such video; restore"),
        (
            lambda root: film(root / TOP, IMAGES[:7]),
            r"ends after 7 pictures, at 0.600 s; .* 0.700 s.*frame 3 of",
        ),
        (lambda root: film(root / TOP, IMAGES, skip=(5,)), r"no picture at 0.500 s for frame 1 of episode 1, and 9 a"),
        (lambda root: film(root / TOP, IMAGES, fps=8), r"no picture at 0.100 s .*8 a second; .* 10 a second"),
        (
            lambda root: film(root / TOP, [i[:16] for i in IMAGES]),
            r"file-000.mp4: frame 0 of episode 0 is \(16, 48, 3\); accepted: \(32, 48",
        ),
        (columns_lost, r"meta/episodes lacks the columns videos/observation.images.top/from_timestamp"),
        (path_unknown, r"info.json: video_path is None; accepted: with {video_key}"),
    ],
)
def test_faults_are_named(root: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(root)
    with pytest.raises(ValueError, match=message) as caught:
        EpisodeDataset.load(root)
    assert "\n" not in str(caught.value)


def test_a_faster_video_fits_where_it_has_the_pictures(root: Path) -> None:
    twice = [image for image in IMAGES for _ in range(2)]
    film(root / TOP, twice, fps=2 * FPS)
    shown = EpisodeDataset.load(root)[1].observation["top"]
    assert all(np.abs(shown[t].astype(int) - picture(1, t)).mean() < 6 for t in range(LENGTHS[1]))

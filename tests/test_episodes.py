"""Episodes on disk: the published layout and exact round trips."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset import LENGTH, equal, make_episode, write

from dream_env.data.concat import Concat
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.parquet import decode_picture
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset

IMAGES, GOAL = "observation.images.pixels", "observation.images.goal_pixels"


def test_episodes_come_back_as_they_were(written: Path) -> None:
    data = EpisodeDataset.load(written)
    originals = [
        make_episode(0),
        make_episode(1, "play"),
        make_episode(2, "demo", "lift"),
        make_episode(2**62 + 3, "demo"),
    ]
    assert len(data) == 4
    assert all(equal(data[i], episode) for i, episode in enumerate(originals))
    stacked = EpisodeDataset.stack(originals)
    for f in fields(EpisodeDataset):
        assert getattr(data, f.name).dtype == getattr(stacked, f.name).dtype, f.name
        assert np.array_equal(getattr(data, f.name), getattr(stacked, f.name)), f.name
    assert data.success.tolist() == [episode.success for episode in originals]
    assert data.success.any() and not data.success.all()


def test_selection(written: Path) -> None:
    data = EpisodeDataset.load(written)
    assert data.select(kind="demo").seed.tolist() == [2, 2**62 + 3]
    assert data.select(kind="demo", task="lift").seed.tolist() == [2]
    assert data.select(task="reach", limit=2).images.shape == (2, LENGTH, 64, 64, 3)
    assert data.select(success=True).success.all()
    with pytest.raises(ValueError, match="kind='policy'.*'demo', 'expert', 'play'"):
        data.select(kind="policy")


def test_datasets_join_in_their_order(written: Path) -> None:
    data = EpisodeDataset.load(written)
    assert EpisodeDataset.concatenate([data]) is data, "pictures stay on disk"
    both = EpisodeDataset.concatenate([data.take(slice(1, None)), data])
    assert both.seed.tolist() == [*data.seed[1:].tolist(), *data.seed.tolist()]
    assert equal(both[0], data[1]) and equal(both[len(data) - 1], data[0])
    assert np.shares_memory(both.images[len(data)], data.images), "so do those of several"
    with pytest.raises(ValueError, match="accepted: one dataset or more"):
        EpisodeDataset.concatenate([])


def test_joined_arrays_are_indexed_as_one() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 255, (n, 5, 2), np.uint8) for n in (3, 1, 4)]
    joined, whole = Concat(parts), np.concatenate(parts)
    rows, frames = rng.integers(0, 8, 20), rng.integers(0, 5, 20)
    mask = rng.random(8) < 0.5
    keys = [2, 3, -1, np.int64(7), slice(None), slice(1, 7, 2), slice(4, 4), rows, mask, np.array([], int), [5, 0]]
    keys += [(rows, frames), (rows, 3), (slice(2, 6), 1), (slice(None), slice(1, 3)), (4, 2)]
    for key in keys:
        wanted, found = whole[key], joined[key]
        assert found.dtype == wanted.dtype and found.shape == wanted.shape, key
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.asarray(joined), whole)
    assert (len(joined), joined.shape, joined.dtype) == (8, (8, 5, 2), np.uint8)
    np.testing.assert_array_equal(np.asarray(Concat([joined, parts[0]])), np.concatenate([whole, parts[0]]))
    with pytest.raises(ValueError, match="same dtype and shape"):
        Concat([parts[0], parts[1][:, :3]])
    with pytest.raises(IndexError):
        joined[8]


def test_layout_is_that_of_lerobot_v3(written: Path) -> None:
    """Files, columns and types that `LeRobotDataset` reads (huggingface/lerobot, datasets/)."""
    info = json.loads((written / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10
    assert info["robot_type"] == "NicoLReal-v0" and info["splits"] == {"train": "0:4"}
    assert (info["total_episodes"], info["total_frames"]) == (4, 4 * LENGTH)
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["features"]["action"] == {
        "dtype": "float32",
        "shape": [4],
        "names": ["dx", "dy", "dz", "closing"],
    }

    rows = [
        row
        for path in sorted((written / "meta/episodes").rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    frames = []
    for i, row in enumerate(rows):
        assert (row["episode_index"], row["length"]) == (i, LENGTH)
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (i * LENGTH, (i + 1) * LENGTH)
        places = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        file = pq.ParquetFile(written / info["data_path"].format(**places))
        frames += file.read().filter(pq.filters_to_expression([("episode_index", "=", i)])).to_pylist()
    assert [frame["index"] for frame in frames] == list(range(4 * LENGTH))
    assert list(frames[0]) == list(info["features"])
    assert np.allclose([f["timestamp"] for f in frames], 4 * list(np.arange(LENGTH) / 10))
    assert [f["next.done"] for f in frames] == 4 * ([False] * EPISODE_STEPS + [True])
    assert frames[EPISODE_STEPS]["action"] == [0, 0, 0, 0]
    assert frames[0]["action"] == make_episode(0).action[0].tolist()
    condition = make_episode(0).condition
    assert [f["next.success"] for f in frames[:EPISODE_STEPS]] == condition[1:].tolist()

    # pandas, and so LeRobot, takes the task strings as the index of the frame.
    tasks = pq.read_table(written / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    names = dict(zip(*(tasks[c].to_pylist() for c in ("task_index", "task")), strict=True))
    assert info["total_tasks"] == len(names) == 3
    for i, row in enumerate(rows):
        assert [names[frames[i * LENGTH]["task_index"]]] == row["tasks"]

    schema = pq.read_schema(written / "data/chunk-000/file-000.parquet")
    hints = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert hints[IMAGES] == {"_type": "Image"}
    assert str(schema.field(IMAGES).type) == "struct<bytes: binary, path: string>"
    assert schema.field("action").type.list_size == 4
    picture = decode_picture(frames[2][IMAGES]["bytes"])
    assert np.array_equal(picture, make_episode(0).images[2])


def test_goal_pictures_are_stored_once(written: Path) -> None:
    group = pq.ParquetFile(written / "data/chunk-000/file-000.parquet").metadata.row_group(0)
    sizes: dict[str, int] = {}
    for i in range(group.num_columns):
        column = group.column(i)
        sizes[column.path_in_schema] = column.total_compressed_size
    assert sizes[f"{GOAL}.bytes"] < 1.5 * sizes[f"{IMAGES}.bytes"] / LENGTH


def test_statistics_are_those_of_the_frames(written: Path) -> None:
    stats = json.loads((written / "meta/stats.json").read_text())
    assert set(stats) == set(json.loads((written / "meta/info.json").read_text())["features"])
    data = EpisodeDataset.load(written)
    state = data.proprio.reshape(-1, 4)
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(stats["observation.state"][name], getattr(state, name)(0)), name
    assert stats["observation.state"]["count"] == [4 * LENGTH]
    lowest = np.quantile(data.proprio, 0.01, axis=1).min(0)  # the envelope over episodes
    assert np.allclose(stats["observation.state"]["q01"], lowest)
    pictures = np.array(stats[IMAGES]["mean"])
    assert pictures.shape == (3, 1, 1)
    sampled = data.images[:, :, ::4, ::4].reshape(-1, 3) / 255
    assert np.allclose(pictures.ravel(), sampled.mean(0))


def test_cached_pictures_follow_the_data(root: Path) -> None:
    assert isinstance(EpisodeDataset.load(root).images, np.memmap)
    before = {path: path.stat().st_mtime_ns for path in (root / "cache").iterdir()}
    EpisodeDataset.load(root)
    assert before == {path: path.stat().st_mtime_ns for path in (root / "cache").iterdir()}
    write(root, make_episode(9))
    data = EpisodeDataset.load(root)
    assert equal(data[4], make_episode(9))
    assert len(list((root / "cache").iterdir())) == len(before) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dance"}, "kind='dance'"),
        ({"action": np.zeros((3, 4), np.float32)}, r"action is float32 \(3, 4\); accepted: .*24, 4"),
        ({"images": np.zeros((LENGTH, 64, 64, 3), np.float32)}, "images is float32"),
        ({"hand": np.full((LENGTH, 3), np.nan, np.float32)}, "hand holds NaN"),
        ({"target": 7}, "target=7 is not known; accepted: 0, 1, 2"),
        ({"colors": np.array([0, 1, 99])}, "colors holds 0 to 99; accepted: 0 to 3"),
        ({"proprio": np.full((LENGTH, 4), 50.0)}, "proprio holds 50.0 to 50.0; accepted: -1 to 1"),
        ({"action": np.full((EPISODE_STEPS, 4), -1.5)}, "action holds -1.5 to -1.5; accepted: -1 to 1"),
    ],
)
def test_malformed_episodes_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_episode(0), **change)


def test_files_rewritten_with_other_row_groups_are_read(root: Path) -> None:
    before = EpisodeDataset.load(root)
    images, goals = np.array(before.images), np.array(before.goal_image)
    for rows in (1000, 7):
        for path in (root / "data").rglob("*.parquet"):
            pq.write_table(pq.read_table(path), path, row_group_size=rows)
        (root / "meta/checksums.json").unlink(missing_ok=True)
        data = EpisodeDataset.load(root)
        assert np.array_equal(data.images, images) and np.array_equal(data.goal_image, goals)


def test_data_files_roll_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_env.data.lerobot.DATA_FILE_MB", 0.5)
    monkeypatch.setattr("dream_env.data.lerobot.CHUNK_FILES", 2)
    write(tmp_path / "set", *(make_episode(i) for i in range(5)))
    store = LeRobotStore(tmp_path / "set")
    names = [*store.files("data")]
    assert names[:3] == [f"chunk-00{i // 2}/file-00{i % 2}.parquet" for i in range(3)]
    assert EpisodeDataset.load(tmp_path / "set").seed.tolist() == [0, 1, 2, 3, 4]

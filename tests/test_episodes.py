"""Episodes on disk: the published layout, exact round trips, interruptions and damage."""

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dream_env.columns import decode_png
from dream_env.contract import EPISODE_STEPS
from dream_env.episodes import FEATURES, GOAL, IMAGES, Episode, EpisodeDataset, EpisodeWriter
from dream_env.episodes import inspect as inspect_dataset
from dream_env.joined import Joined
from dream_env.lerobot import LeRobotStore, replacing

LENGTH = EPISODE_STEPS + 1


def make_episode(seed: int, kind: str = "expert", task: str = "reach") -> Episode:
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    return Episode(
        seed=seed,
        kind=kind,
        task=task,
        instruction=f"{task} the {['red', 'blue'][seed % 2]} cube",
        images=rng.integers(0, 256, (LENGTH, 64, 64, 3), np.uint8),
        goal_image=rng.integers(0, 256, (64, 64, 3), np.uint8),
        proprio=uniform(LENGTH, 4),
        action=uniform(EPISODE_STEPS, 4),
        label=uniform(EPISODE_STEPS, 4),
        objects=uniform(LENGTH, 3, 3),
        colors=rng.permutation(4)[:3],
        target=seed % 3,
        hand=uniform(LENGTH, 3),
        held=rng.random(LENGTH) < 0.5,
        condition=np.arange(LENGTH) >= LENGTH - 1 - seed % 4,
    )


def write(root: Path, *episodes: Episode) -> None:
    with EpisodeWriter(root) as writer:
        for episode in episodes:
            writer.add(episode)


def equal(a: Episode, b: Episode) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Episode))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes, consolidated in two goes."""
    root = tmp_path_factory.mktemp("data") / "set"
    write(root, make_episode(0), make_episode(1, "play"))
    write(root, make_episode(2, "demo", "lift"), make_episode(2**62 + 3, "demo"))
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "set"))


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
    joined, whole = Joined(parts), np.concatenate(parts)
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
    np.testing.assert_array_equal(np.asarray(Joined([joined, parts[0]])), np.concatenate([whole, parts[0]]))
    with pytest.raises(ValueError, match="one type and shape"):
        Joined([parts[0], parts[1][:, :3]])
    with pytest.raises(IndexError):
        joined[8]


def test_layout_is_that_of_lerobot_v3(written: Path) -> None:
    """Files, columns and types that `LeRobotDataset` reads (huggingface/lerobot, datasets/)."""
    info = json.loads((written / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10
    assert info["robot_type"] == "nicol" and info["splits"] == {"train": "0:4"}
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
    picture = decode_png(frames[2][IMAGES]["bytes"])
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


def test_staged_episodes_wait_for_consolidation(tmp_path: Path) -> None:
    root = tmp_path / "set"
    with pytest.raises(FileNotFoundError, match="no dataset in .*agents.collect --out"):
        EpisodeDataset.load(root)
    EpisodeWriter(root).add(make_episode(5))
    with pytest.raises(FileNotFoundError, match=f"python -m dream_env.episodes {root}"):
        EpisodeDataset.load(root)
    assert EpisodeWriter(root).seeds() == {5}
    inspect_dataset(root)
    assert equal(EpisodeDataset.load(root)[0], make_episode(5))
    assert not list((root / "staging").iterdir())


def test_a_seed_is_added_once(root: Path) -> None:
    """Neither a second writer, whose orders begin at 0 too, nor another order or kind takes it again."""
    with EpisodeWriter(root) as writer:
        for episode, order in ((make_episode(0), 0), (make_episode(0), 5), (make_episode(1, "demo"), None)):
            with pytest.raises(ValueError, match=f"seed={episode.seed} is in .*set already .*accepted: a new one"):
                writer.add(episode, order)
        writer.add(make_episode(7))
        changed = replace(make_episode(7), action=np.zeros((EPISODE_STEPS, 4), np.float32))
        with pytest.raises(ValueError, match="seed=7 is in .*00000000-expert-7"):
            EpisodeWriter(root).add(changed)
        writer.add(replace(make_episode(7), seed=-7))
        writer.add(replace(make_episode(7), seed=77))
    data = EpisodeDataset.load(root)
    assert data.seed.tolist() == [0, 1, 2, 2**62 + 3, 7, -7, 77]
    assert equal(data[4], make_episode(7))


def test_files_in_staging_that_are_no_episodes_are_named(root: Path) -> None:
    EpisodeWriter(root).add(make_episode(7))
    staged = next((root / "staging").iterdir())
    whole, foreign = staged.read_bytes(), root / "staging/notes.parquet"
    for path, content in (
        (foreign, b"dear to somebody"),
        (foreign, (root / "meta/tasks.parquet").read_bytes()),
        (staged, whole[:-100]),
    ):
        path.write_bytes(content)
        for act in (EpisodeWriter(root).seeds, EpisodeWriter(root).close):
            with pytest.raises(ValueError, match=f"{path} is no staged episode .*delete this file, collect it again"):
                act()
        foreign.unlink(missing_ok=True)
    staged.write_bytes(whole)
    assert EpisodeWriter(root).close() == 5


@pytest.mark.parametrize("survivors", [1, 2, 3, 4, 5])
def test_interrupted_consolidation_is_repaired(root: Path, survivors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its five files was the last one written, nothing is lost or doubled."""
    moves, move = [], os.replace

    def failing(source: Path, target: Path) -> None:
        if "staging" not in str(target):
            moves.append(target)
            if len(moves) > survivors:
                raise KeyboardInterrupt
        move(source, target)

    writer = EpisodeWriter(root)
    writer.add(make_episode(7))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        if survivors == 5:  # everything written, but the staged file still there
            patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    if survivors < 5:
        with pytest.raises(ValueError, match=r"beyond its 4 were .*python -m dream_env\.episodes"):
            EpisodeDataset.load(root)
    inspect_dataset(root)
    data = EpisodeDataset.load(root)
    assert data.seed.tolist() == [0, 1, 2, 2**62 + 3, 7]
    assert equal(data[4], make_episode(7))


def test_damage_is_named(root: Path) -> None:
    data = root / "data/chunk-000/file-001.parquet"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="file-001.parquet cannot be read.*collect it again"):
        EpisodeDataset.load(root)
    data.write_bytes(whole)
    pq.write_table(pq.read_table(data).slice(0, 30), data)
    with pytest.raises(ValueError, match="80 frames in 4 episodes"):
        EpisodeDataset.load(root)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(ValueError, match="info.json is not JSON"):
        EpisodeDataset.load(root)


@pytest.fixture(scope="module")
def four_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes, each in files of its own, and a fifth one that is staged."""
    root = tmp_path_factory.mktemp("data") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dream_env.lerobot.DATA_FILE_MB", 1e-6)
        write(root, *(make_episode(i) for i in range(4)))
    EpisodeWriter(root).add(make_episode(99))
    return root


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(
    "lost",
    [
        *(f"{folder}/chunk-000/file-00{i}.parquet" for folder in ("data", "meta/episodes") for i in (0, 2, 3)),
        "meta/info.json",
        "meta",
    ],
)
def test_nothing_is_deleted_where_a_file_is_lost(four_files: Path, lost: str, staged: bool, tmp_path: Path) -> None:
    """No repair takes what is left for the rest of an interruption, whether or not an episode is staged."""
    root = Path(shutil.copytree(four_files, tmp_path / "set"))
    if not staged:
        next((root / "staging").iterdir()).unlink()
    writer = EpisodeWriter(root)
    shutil.move(root / lost, tmp_path / "lost")
    files = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    for act in (writer.seeds, writer.close, lambda: EpisodeDataset.load(root), lambda: inspect_dataset(root)):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            act()
        if lost.endswith(".parquet"):
            assert "has lost" in str(error.value) and "collect it again" in str(error.value)
            assert "python -m dream_env.episodes" not in str(error.value)
    assert files == {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    shutil.move(tmp_path / "lost", root / lost)
    inspect_dataset(root)
    assert EpisodeDataset.load(root).seed.tolist() == [0, 1, 2, 3, *([99] if staged else [])]


def test_files_rewritten_with_other_row_groups_are_read(root: Path) -> None:
    before = EpisodeDataset.load(root)
    images, goals = np.array(before.images), np.array(before.goal_image)
    for rows in (1000, 7):
        for path in (root / "data").rglob("*.parquet"):
            pq.write_table(pq.read_table(path), path, row_group_size=rows)
        data = EpisodeDataset.load(root)
        assert np.array_equal(data.images, images) and np.array_equal(data.goal_image, goals)


def test_replacing_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder/file.txt"
    with replacing(path) as new:
        new.write_text("whole")
    with pytest.raises(KeyboardInterrupt), replacing(path) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_foreign_folders_are_left_alone(root: Path, tmp_path: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"robot_type": "aloha"}))
    with pytest.raises(ValueError, match="robot_type is 'aloha'; accepted: 'nicol'"):
        EpisodeWriter(root)
    info["features"].pop("action.expert")
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="action.expert is None; accepted: "):
        EpisodeDataset.load(root)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("dear to somebody")
    with pytest.raises(ValueError, match="is not empty and holds no dataset"):
        EpisodeWriter(tmp_path / "home")


def test_data_files_roll_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_env.lerobot.DATA_FILE_MB", 0.5)
    monkeypatch.setattr("dream_env.lerobot.CHUNK_FILES", 2)
    write(tmp_path / "set", *(make_episode(i) for i in range(5)))
    store = LeRobotStore(tmp_path / "set", FEATURES, "nicol", 10)
    names = [*store.files("data")]
    assert names[:3] == [f"chunk-00{i // 2}/file-00{i % 2}.parquet" for i in range(3)]
    assert EpisodeDataset.load(tmp_path / "set").seed.tolist() == [0, 1, 2, 3, 4]

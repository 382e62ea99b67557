"""Data sets are checked as they are loaded: what is wrong is named with its file and a remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_world import episode, equal, write

from dream_env.data import pictures
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.parquet import encode_png

DATA, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
SUMS = "meta/checksums.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("checked") / "set", episode(0, 2), episode(1, 3))


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def change(root: Path, file: str, name: str, edit: Callable[[list], Any]) -> None:
    """Edits one column of a parquet file, as another tool would write it."""
    table = pq.read_table(root / file)
    values = table[name].to_pylist()
    edited = edit(values)
    column = pa.array(values if edited is None else edited, table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), table.schema.field(name), column), root / file)
    (root / SUMS).unlink()  # which no other tool writes


def at(row: int, value: Any) -> Callable[[list], None]:
    def edit(values: list) -> None:
        values[row] = value

    return edit


PICTURE = {"bytes": encode_png(np.zeros((1, 1, 3), np.uint8)), "path": None}


@pytest.mark.parametrize(
    ("file", "name", "edit", "message"),
    [
        (
            DATA,
            "action",
            at(1, [np.nan, 0]),
            "action: it holds NaN or infinity in the episodes 0; .*lerobot-edit-dataset",
        ),
        (DATA, "action", at(1, [1e9, 0]), r"action: action holds .* to 1000000000.0; accepted: -2.0 to 2.0"),
        (DATA, "observation.state", at(0, [50, 0, 0]), "observation.state holds .*; accepted: -1.0 to 1.0"),
        (DATA, "observation.force", at(0, None), "observation.force: it holds nulls"),
        (DATA, "action", at(0, None), "action: it holds nulls"),
        (DATA, "next.reward", at(0, np.inf), "next.reward: it holds NaN or infinity"),
        (DATA, "privileged.pose", at(2, [np.nan] * 6), "privileged.pose: it holds NaN"),
        (DATA, "frame_index", lambda values: values[::-1], "frame_index is not in order"),
        (DATA, "index", at(0, 99), "index is not in order"),
        (DATA, "episode_index", at(0, 1), "episode_index is not in order"),
        (DATA, "observation.images.top", at(1, PICTURE), r"of frame 1 is \(1, 1, 3\); accepted: \(6, 8, 3\)"),
        (DATA, "observation.images.top", at(1, {"bytes": b"xx", "path": None}), "of frame 1 cannot be decoded"),
        (DATA, "observation.images.wrist", at(2, None), "of frame 2 has no picture in it"),
        (META, "kind", at(0, None), "holds nulls in kind"),
        (META, "seed", at(1, None), "holds nulls in seed"),
        (META, "task_name", at(1, None), "holds nulls in task_name"),
        (META, "length", at(1, 7), "10 in all; accepted: at least 2 in each, and the 7 of info.json"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_file(
    root: Path, file: str, name: str, edit: Callable, message: str
) -> None:
    change(root, file, name, edit)
    with pytest.raises(ValueError, match=message) as error:
        EpisodeDataset.load(root)
    assert str(root) in str(error.value) and "collect it again" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("total_episodes", 10**9, "has lost a file: meta/episodes holds 2 episodes, .* counts 1000000000"),
        ("total_episodes", None, "total_episodes is None; accepted: 1 or more"),
        ("total_frames", 10**12, "accepted: at least 2 in each, and the 1000000000000"),
        ("total_frames", -1, "total_frames is -1"),
        ("fps", "fast", "fps is 'fast'; accepted: a positive number"),
        ("codebase_version", "v2.1", "codebase_version is 'v2.1'; .*script convert_dataset_v21_to_v30 converts v2.1$"),
        ("features", None, "features is None"),
        ("features", [], r"features is \[\]"),
        ("features", {"action": None}, "feature 'action' is None; accepted: dtype and shape"),
        ("features", {"action": {"dtype": "float32", "shape": [10**12]}}, "feature 'action' is"),
        (None, None, "it holds NoneType, no object"),
        (None, [], "it holds list, no object"),
    ],
)
def test_absurd_info_is_named(root: Path, key: str | None, value: Any, message: str) -> None:
    path = root / "meta/info.json"
    (root / SUMS).unlink()
    path.write_text(json.dumps(value if key is None else json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message) as error:
        EpisodeDataset.load(root)
    assert ("collect it again" in str(error.value)) == (value != "v2.1")  # LeRobot converts these


def test_missing_columns_are_named(root: Path) -> None:
    for file, name in ((DATA, "next.reward"), (META, "length")):
        table = pq.read_table(root / file)
        (root / SUMS).unlink(missing_ok=True)
        pq.write_table(table.drop_columns([name]), root / file)
        with pytest.raises(ValueError, match=f"{file} lacks the columns {name}; .*collect it again"):
            EpisodeDataset.load(root)
        pq.write_table(table, root / file)
    (root / "meta/spec.json").write_text("[]")
    with pytest.raises(ValueError, match="spec.json: "):
        EpisodeDataset.load(root)


@pytest.mark.parametrize("file", [DATA, META, "meta/info.json", "meta/spec.json", "meta/tasks.parquet", SUMS])
def test_a_flipped_bit_is_found(root: Path, file: str) -> None:
    path, rng = root / file, np.random.default_rng(0)
    content = path.read_bytes()
    for place in rng.integers(0, len(content), 40):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=str(root)):
            EpisodeDataset.load(root)
    path.write_bytes(content)
    assert equal(EpisodeDataset.load(root)[1], episode(1, 3))


def test_checksums_of_files_that_stay_are_kept(root: Path) -> None:
    """What was damaged before episodes are added is not taken for whole after it."""
    data = root / DATA
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    write(root, episode(2))
    with pytest.raises(ValueError, match=f"{data} is damaged: .*delete .*checksums.json"):
        EpisodeDataset.load(root)


def test_read_only_data_are_cached_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Beside the data, else in the user's cache, else in memory."""
    refused = [root / "cache"]
    make = Path.mkdir

    def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
        if any(path == one or one in path.parents for one in refused):  # root may write anywhere, tests may run as root
            raise PermissionError(13, "Permission denied", str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    data = EpisodeDataset.load(root)
    assert isinstance(data.observation["top"], np.memmap) and equal(data[1], episode(1, 3))
    assert list((tmp_path / "home/dream_env").rglob("*.npy")) and not (root / "cache").exists()
    assert equal(EpisodeDataset.load(root)[0], episode(0, 2))
    shutil.rmtree(tmp_path / "home")
    refused.append(tmp_path / "home")
    data = EpisodeDataset.load(root)
    assert not isinstance(data.observation["top"], np.memmap) and equal(data[1], episode(1, 3))


def test_pictures_that_fit_nowhere_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    assert len(EpisodeDataset.load(root)) == 2 and not list((root / "cache").glob("*.npy")), "held in memory"
    monkeypatch.setattr(pictures.psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
    with pytest.raises(ValueError, match="decoded pictures take 0.0 GB; accepted: that much free space in .*cache"):
        EpisodeDataset.load(root)


def test_a_damaged_cache_is_made_anew(root: Path) -> None:
    EpisodeDataset.load(root)
    for path in (root / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:90])
    assert equal(EpisodeDataset.load(root)[0], episode(0, 2))
    assert pictures.folders(root)[0] == root / "cache"

"""Episodes on disk after interruptions and damage: what is repaired, named, or left alone."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset import equal, make_episode, write

from dream_env.data.writer import inspect as inspect_dataset
from dream_env.files import replacing
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset, EpisodeWriter


def test_staged_episodes_wait_for_consolidation(tmp_path: Path) -> None:
    root = tmp_path / "set"
    with pytest.raises(FileNotFoundError, match="no dataset in .*agents.collect --out"):
        EpisodeDataset.load(root)
    EpisodeWriter(root).add(make_episode(5))
    with pytest.raises(FileNotFoundError, match=f"python -m dream_env.data.episodes {root}"):
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


@pytest.mark.parametrize("survivors", [1, 2, 3, 4, 5, 6, 7])
def test_interrupted_consolidation_is_repaired(root: Path, survivors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its seven files was the last one written, nothing is lost or doubled."""
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
        if survivors == 7:  # everything written, but the staged file still there
            patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    if survivors < 7:
        with pytest.raises(ValueError, match=r"beyond its 4 were .*python -m dream_env\.data\.episodes"):
            EpisodeDataset.load(root)
    inspect_dataset(root)
    data = EpisodeDataset.load(root)
    assert data.seed.tolist() == [0, 1, 2, 2**62 + 3, 7]
    assert equal(data[4], make_episode(7))


def test_damage_is_named(root: Path) -> None:
    data = root / "data/chunk-000/file-001.parquet"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="file-001.parquet is damaged.*collect it again"):
        EpisodeDataset.load(root)
    data.write_bytes(whole)
    pq.write_table(pq.read_table(data).slice(0, 30), data)
    with pytest.raises(ValueError, match="file-001.parquet is damaged"):
        EpisodeDataset.load(root)
    (root / "meta/checksums.json").unlink()
    with pytest.raises(ValueError, match="80 frames; accepted: the 100 of meta/episodes"):
        EpisodeDataset.load(root)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(ValueError, match="info.json is not JSON"):
        EpisodeDataset.load(root)


@pytest.fixture(scope="module")
def four_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes, each in files of its own, and a fifth one that is staged."""
    root = tmp_path_factory.mktemp("data") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dream_env.data.lerobot.DATA_FILE_MB", 1e-6)
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
            assert "python -m dream_env.data.episodes" not in str(error.value)
    assert files == {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    shutil.move(tmp_path / "lost", root / lost)
    inspect_dataset(root)
    assert EpisodeDataset.load(root).seed.tolist() == [0, 1, 2, 3, *([99] if staged else [])]


def test_replacing_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder/file.txt"
    with replacing(path) as new:
        new.write_text("whole")
    with pytest.raises(KeyboardInterrupt), replacing(path) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_foreign_folders_are_left_alone(root: Path, tmp_path: Path) -> None:
    spec = json.loads((root / "meta/spec.json").read_text())
    (root / "meta/spec.json").write_text(json.dumps(spec | {"name": "aloha"}))
    with pytest.raises(ValueError, match="another world: name 'aloha', now 'NicoLReal-v0'; choose another folder"):
        EpisodeWriter(root)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("dear to somebody")
    with pytest.raises(ValueError, match="is not empty and holds no dataset"):
        EpisodeWriter(tmp_path / "home")


def test_what_an_earlier_version_collected_is_to_be_collected_again(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.workspace"] = info["features"].pop("observation.images.pixels")
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/spec.json").unlink()
    (root / "meta/checksums.json").unlink()
    with pytest.raises(ValueError, match=r"lacks the feature 'observation.images.pixels'.*collect it again"):
        EpisodeDataset.load(root)

"""Data sets that LeRobot itself wrote or edited: they load, and their spec is derived from their columns."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset import equal, make_episode
from gymnasium import spaces
from PIL import Image

from dream_env.agents.view.controls import controls_of
from dream_env.data import columns
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.parquet import encode_png
from dream_env.data.writer import inspect
from dream_env.nicol import episodes as nicol

LENGTHS = (4, 6)


def picture(height: int, width: int, frame: int) -> dict:
    return {"bytes": encode_png(np.full((height, width, 3), 10 * frame, np.uint8)), "path": f"frame-{frame:06d}.png"}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """What `LeRobotDataset.create`, `add_frame`, `save_episode` and `finalize` of lerobot 0.4.4 leave."""
    root, total = tmp_path / "foreign", sum(LENGTHS)
    for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
        (root / folder).mkdir(parents=True)
    frame = np.concatenate([np.arange(n) for n in LENGTHS])
    episode = np.repeat([0, 1], LENGTHS)
    columns = {
        "observation.images.top": [picture(6, 8, i) for i in range(total)],
        "observation.images.wrist": [picture(5, 4, i) for i in range(total)],
        "observation.state": [[float(e), float(t), 0.5] for e, t in zip(episode, frame, strict=True)],
        "action": [[0.1 * i, -0.1 * i] for i in range(total)],
        "next.success": (frame == np.array(LENGTHS)[episode] - 1) & (episode == 1),
        "timestamp": frame / 20,
        "frame_index": frame,
        "episode_index": episode,
        "index": np.arange(total),
        "task_index": episode,
    }
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    rows = {
        "episode_index": [0, 1],
        "tasks": [["do this"], ["do that"]],
        "length": list(LENGTHS),
        "data/chunk_index": [0, 0],
        "data/file_index": [0, 0],
        "dataset_from_index": [0, 4],
        "dataset_to_index": [4, 10],
    }
    pq.write_table(pa.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    features = {
        "observation.images.top": {
            "dtype": "image",
            "shape": [6, 8, 3],
            "names": ["h", "w", "c"],
        },
        "observation.images.wrist": {"dtype": "image", "shape": [3, 5, 4], "names": None},
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["a", "b", "c"]},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in list(columns)[5:]}
    info = {"codebase_version": "v3.0", "robot_type": "arm", "total_episodes": 2, "total_frames": total, "fps": 20}
    (root / "meta/info.json").write_text(json.dumps(info | {"features": features}))
    (root / "meta/stats.json").write_text(json.dumps({"action": {"min": [0, -0.9], "max": [0.9, 0]}}))
    return root


def test_a_data_set_of_lerobot_loads(foreign: Path) -> None:
    data = EpisodeDataset.load(foreign)
    assert data.spec.name == "arm" and data.spec.control_hz == 20 and data.spec.instructions and not data.spec.goals
    assert set(data.spec.pictures) == {"top", "wrist"} and data.spec.vectors == ("state",)
    assert data.spec.names == {"state": ("a", "b", "c")}
    np.testing.assert_allclose(data.spec.action.high, [0.9, 0])  # type: ignore[union-attr]
    assert data.lengths.tolist() == [3, 5] and data.instruction.tolist() == ["do this", "do that"]
    one = data[1]
    assert one.observation["top"].shape == (6, 6, 8, 3) and one.observation["wrist"].shape == (6, 5, 4, 3)
    assert one.observation["wrist"][2, 0, 0, 0] == 60 and one.kind == one.task == "unknown"
    np.testing.assert_allclose(one.action[:, 0], 0.1 * np.arange(4, 9))
    assert one.success is not None and one.success.tolist() == [False] * 5 + [True]
    assert data.solved.tolist() == [False, True]
    with pytest.raises(ValueError, match="kind='demo' is not known; .*meta/episodes has lost the column kind"):
        data.select(kind="demo")


def test_large_pictures_in_parquet_files_are_reduced(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SIDE", 4)
    shown = EpisodeDataset.load(foreign)[1].observation
    assert (
        shown["top"].shape == (6, 3, 4, 3) and shown["top"][2, 0, 0, 0] == 60 and shown["wrist"].shape == (6, 4, 3, 3)
    )


def test_depth_in_a_picture_is_named(foreign: Path) -> None:
    file, buffer = foreign / "data/chunk-000/file-000.parquet", io.BytesIO()
    Image.fromarray(np.full((6, 8), 900, np.uint16)).save(buffer, "PNG")
    table = pq.read_table(file)
    depth = pa.array([{"bytes": buffer.getvalue(), "path": None}] * table.num_rows)
    pq.write_table(table.set_column(0, "observation.images.top", depth), file)
    with pytest.raises(ValueError, match="top of frame 0 .*its pixels are 'I;16', as those of depth maps; accepted: 8"):
        EpisodeDataset.load(foreign)


def test_without_statistics_the_bounds_of_actions_are_measured(foreign: Path) -> None:
    (foreign / "meta/stats.json").unlink()
    space: Any = EpisodeDataset.load(foreign).spec.action
    np.testing.assert_allclose([space.low, space.high], [[0, -0.9], [0.9, 0]], atol=1e-6)


def test_an_action_that_never_moved_can_hardly_be_moved(foreign: Path) -> None:
    (foreign / "meta/stats.json").write_text(json.dumps({"action": {"min": [0.5, -90], "max": [0.5, -90]}}))
    space: Any = EpisodeDataset.load(foreign).spec.action
    np.testing.assert_allclose(space.high - space.low, [1e-3, 9e-2], rtol=1e-2)


def test_features_and_tasks_without_content_are_accepted(foreign: Path) -> None:
    path = foreign / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["tasks"] = []
    pq.write_table(pa.Table.from_pylist(rows), path)
    info = json.loads((foreign / "meta/info.json").read_text())
    info["features"]["observation.nothing"] = {"dtype": "float32", "shape": [0], "names": None}
    (foreign / "meta/info.json").write_text(json.dumps(info))
    data = EpisodeDataset.load(foreign)
    assert data.instruction.tolist() == ["", "do that"] and "nothing" not in data.spec.shapes


def test_the_summary_tells_what_is_read(foreign: Path, capsys: pytest.CaptureFixture) -> None:
    info = json.loads((foreign / "meta/info.json").read_text())
    info["features"]["subtask"] = {"dtype": "string", "shape": [1], "names": None}
    (foreign / "meta/info.json").write_text(json.dumps(info))
    inspect(foreign)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].endswith("2 episodes of 3 to 5 steps")
    assert "observation.images.wrist: pictures (5, 4), read as (5, 4)" in lines
    assert "observation.state: (3,)" in lines and "action: (2,) from -0.9 to 0.9; 20 a second" in lines
    assert "not read: subtask" in lines and not (foreign / "cache").exists()  # nothing is decoded for this


def test_the_longest_episode_of_another_tool_is_the_horizon(foreign: Path) -> None:
    assert EpisodeDataset.load(foreign).spec.horizon == max(LENGTHS) - 1


def test_the_reward_of_another_tool_s_last_frame_is_kept(foreign: Path) -> None:
    file, info = foreign / "data/chunk-000/file-000.parquet", foreign / "meta/info.json"
    table = pq.read_table(file)
    last = np.isin(np.arange(table.num_rows), np.cumsum(LENGTHS) - 1)
    pq.write_table(table.append_column("next.reward", pa.array(np.where(last, 1.0, 0.25).astype(np.float32))), file)
    described = json.loads(info.read_text())
    described["features"]["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    info.write_text(json.dumps(described))
    data = EpisodeDataset.load(foreign)
    assert [one.reward.tolist() for one in (data[0], data[1])] == [[0.25, 0.25, 1.25], [0.25] * 4 + [1.25]]


def test_episodes_of_other_tools_keep_their_ids_in_any_order_and_share_them_with_no_others(
    foreign: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(foreign, tmp_path / "other"))
    file = other / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    moved = pa.array([[0.1, 0.0]] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", moved), file)
    ids = EpisodeDataset.load(foreign, other).seed.tolist()
    assert len(set(ids)) == 4 and min(ids) >= 0
    assert EpisodeDataset.load(other, foreign).seed.tolist() == ids[2:] + ids[:2]


def test_discrete_actions_of_lerobot_load(foreign: Path) -> None:
    info, file = json.loads((foreign / "meta/info.json").read_text()), foreign / "data/chunk-000/file-000.parquet"
    info["features"]["action"] = {"dtype": "int64", "shape": [1], "names": None}
    (foreign / "meta/info.json").write_text(json.dumps(info))
    (foreign / "meta/stats.json").write_text(json.dumps({"action": {"min": [0], "max": [4]}}))
    table = pq.read_table(file)
    where = table.column_names.index("action")
    pq.write_table(table.set_column(where, "action", pa.array(np.arange(10) % 5)), file)
    data = EpisodeDataset.load(foreign)
    assert data.spec.action == spaces.Discrete(5) and data[0].action.tolist() == [0, 1, 2]


@pytest.mark.parametrize("given", [["x", "gripper"], ["x"], {"motors": ["x", "gripper"]}, None], ids=str)
def test_the_names_of_actions_are_known_to_the_viewer_if_each_has_one(foreign: Path, given: Any) -> None:
    info = json.loads((foreign / "meta/info.json").read_text())
    info["features"]["action"]["names"] = given
    (foreign / "meta/info.json").write_text(json.dumps(info))
    spec, named = EpisodeDataset.load(foreign).spec, given in (["x", "gripper"], {"motors": ["x", "gripper"]})
    assert spec.names.get("action") == (("x", "gripper") if named else None)
    assert [axis.label for axis in controls_of(spec).axes] == (["x", "gripper"] if named else ["action 1", "action 2"])


def test_nothing_is_added_to_what_another_tool_wrote(foreign: Path) -> None:
    from dream_env.data.writer import EpisodeWriter

    with pytest.raises(ValueError, match="another tool has written it.*collect into another folder"):
        EpisodeWriter(foreign)
    with pytest.raises(ValueError, match="lacks the feature 'observation.images.pixels'"):
        nicol.EpisodeDataset.load(foreign)


def test_what_lerobots_tools_have_edited_loads(written: Path, tmp_path: Path) -> None:
    """Deleting, splitting and merging keep the frames, and drop spec, checksums and our columns of meta/episodes."""
    root = Path(shutil.copytree(written, tmp_path / "edited"))
    shutil.rmtree(root / "cache", ignore_errors=True)
    (root / "meta/spec.json").unlink()
    (root / "meta/checksums.json").unlink()
    files = sorted((root / "meta/episodes").rglob("*.parquet"))
    rows = pa.concat_tables(pq.read_table(path) for path in files)
    files[1].unlink()
    own = ["name", "kind", "task_name", "seed", "success"]
    pq.write_table(rows.drop_columns(own), files[0])
    data = nicol.EpisodeDataset.load(root)
    assert len(set(data.seed.tolist())) == 4 and set(data.kind) == {"unknown"}
    assert data.task.tolist() == ["reach", "reach", "lift", "reach"], "the sentences tell"
    wanted = make_episode(2, "unknown", "lift")
    assert equal(data[2], replace(wanted, seed=int(data.seed[2])))
    assert EpisodeDataset.load(root).spec.goals
    with pytest.raises(ValueError, match="file-000.parquet lacks the columns kind, name, seed, task_name: another"):
        nicol.EpisodeWriter(root)

"""Reads a LeRobotDataset, written by any tool, into memory, and checks its contents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env.data.columns import ACTION, HOLDS, REWARD, SUCCESS, TERMINATED, Columns, derive, stored_shape
from dream_env.data.episode import UNKNOWN, check_values
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.parquet import RECOLLECT, read_parquet, to_numpy
from dream_env.data.pictures import Wanted, pictures
from dream_env.data.videos import Video
from dream_env.spec import WorldSpec, idle_action

TIME = "timestamp"
"""Column with the seconds since the start of the episode; read only if images are stored as videos."""


def read(root: str | Path, spec: WorldSpec | None = None) -> dict[str, Any]:
    """Reads one dataset.

    Args:
        root: Folder of the dataset.
        spec: Spec of the episodes; None to read it from meta/spec.json, or to derive it from the columns if that file
            does not exist. A derived spec has the length of the longest episode as its horizon.

    Returns:
        The fields of a `dream_env.data.episodes.EpisodeDataset`.

    Raises:
        FileNotFoundError: If there is no dataset, or only staged episodes.
        ImportError: If images are stored as videos and PyAV is not installed.
        ValueError: If the dataset is damaged, only partly consolidated, or does not fit the spec; the message names the
            file and a remedy.
    """
    store = LeRobotStore(root)
    info, rows = store.info(), store.episodes()
    store.verify()
    features = info["features"]
    stored = spec or (WorldSpec.load(store.spec_path) if store.spec_path.exists() else None)
    spec, columns, sentences = contents(store, rows, stored)
    _check_features(store, spec, columns, features)
    lengths = np.array([row["length"] for row in rows])
    if lengths.min() < 2 or lengths.sum() != info["total_frames"]:
        raise ValueError(
            f"{store.root}/meta: {len(rows)} episodes of {lengths.min()} frames or more, {lengths.sum()} in all; "
            f"accepted: at least 2 in each, and the {info['total_frames']} of info.json; {RECOLLECT}"
        )
    if stored is None:
        spec = replace(spec, horizon=int(lengths.max()) - 1)  # so that dreams of it end, too
    offsets = np.cumsum([0, *lengths])
    frames = _frames(store, spec, columns, features, offsets, bounded=stored is not None)
    last = offsets[1:] - 1
    action = frames[ACTION].reshape(-1) if isinstance(spec.action, spaces.Discrete) else frames[ACTION]
    # No step follows the last frame. Other tools store an action there, and its reward, which may be the only one.
    if REWARD in frames:
        frames[REWARD][last - 1] += frames[REWARD][last]
        frames[REWARD][last] = 0
    frames[ACTION][last] = idle_action(spec.action)
    wanted = {
        column: Wanted(_shape(spec, name), stored_shape(features[column]), rows_)
        for places, rows_ in ((columns.observation, np.arange(offsets[-1])), (columns.goal, offsets[:-1]))
        for name, column in places.items()
        if name in spec.pictures
    }
    for column in [column for column in wanted if features[column]["dtype"] == "video"]:
        video = Video.of(store.root, info, rows, column, offsets, frames[TIME].reshape(-1))
        wanted[column] = wanted[column]._replace(video=video)
    images = pictures(store.root, store.files("data").values(), wanted)
    vectors = {name: frames[column] for name, column in columns.observation.items() if column in frames}
    goals = {name: frames[column][offsets[:-1]] for name, column in columns.goal.items() if column in frames}
    return dict(
        spec=spec,
        offsets=offsets,
        observation={n: images.get(c, vectors.get(n)) for n, c in columns.observation.items()},
        action=action,
        terminated=_terminated(frames, offsets),
        instruction=np.array(sentences if spec.instructions else [""] * len(rows)),
        seed=_ids(rows, action, vectors, offsets),
        kind=np.array([row.get("kind", UNKNOWN) for row in rows]),
        task=np.array([row.get("task_name", UNKNOWN) for row in rows]),
        reward=frames[REWARD].reshape(-1) if REWARD in frames else None,
        success=_success(frames, offsets),
        goal={n: images.get(c, goals.get(n)) for n, c in columns.goal.items()},
        labels={name: frames[column] for name, column in columns.labels.items()},
    )


def contents(store: LeRobotStore, rows: list[dict], spec: WorldSpec | None) -> tuple[WorldSpec, Columns, list[str]]:
    """Returns the spec of a dataset, its columns, and the instruction of every episode, or "".

    Args:
        store: The dataset.
        rows: Its rows of meta/episodes.
        spec: Spec of the episodes; None to derive it from the columns.

    Raises:
        ValueError: If the columns do not fit a spec.
    """
    info = store.info()
    name = spec.name if spec else info.get("robot_type")  # what is stored in the place of an empty instruction
    told = [row["tasks"][0] if row["tasks"] else "" for row in rows]
    sentences = ["" if sentence == name else sentence for sentence in told]
    try:
        if spec is None:
            return *derive(info, _stats(store), instructions=any(sentences)), sentences
        return spec, Columns.of_spec(spec, info["features"]), sentences
    except ValueError as error:
        raise ValueError(f"{store.root}: {error}") from error


def _shape(spec: WorldSpec, name: str) -> tuple[int, ...]:
    shape = spec.observation[name].shape
    assert shape is not None
    return shape


def _stats(store: LeRobotStore) -> dict[str, Any]:
    """Returns the content of meta/stats.json; minimum and maximum of the actions are measured if they are not in it."""
    try:
        stats = json.loads((store.root / "meta" / "stats.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stats = {}
    stats = stats if isinstance(stats, dict) else {}
    if {"min", "max"} <= {*(stats.get(ACTION) or {})} or ACTION not in store.info()["features"]:
        return stats
    parts = []
    for path in store.files("data").values():
        try:
            parts.append(to_numpy(read_parquet(path, [ACTION])[ACTION]))
        except ValueError as error:
            raise ValueError(f"{path}: {ACTION}: {error}; {RECOLLECT}") from error
    return stats | {ACTION: {"min": np.min([p.min(0) for p in parts], 0), "max": np.max([p.max(0) for p in parts], 0)}}


def _check_features(store: LeRobotStore, spec: WorldSpec, columns: Columns, features: dict[str, dict]) -> None:
    """Raises ValueError if a column required by the spec is missing or has another shape."""
    action = (1,) if isinstance(spec.action, spaces.Discrete) else spec.action.shape
    needed = {column: _shape(spec, name) for name, column in columns.pairs()}
    for column, shape in (needed | {ACTION: action}).items():
        if column not in features:
            raise ValueError(
                f"{store.root}/meta/info.json lacks the feature {column!r}: an earlier version of this package wrote "
                f"it, or it is of another robot than {spec.name!r}; collect it again, or load the folder it came from"
            )
        picture = len(shape) == 3
        given = stored_shape(features[column]) if picture else tuple(features[column]["shape"])
        if given != shape and not (picture and (np.array(given) >= shape).all()):  # larger pictures are reduced
            raise ValueError(f"{store.root}/meta/info.json: {column} is {given}; accepted: {shape} of {spec.name!r}")


def _frames(
    store: LeRobotStore, spec: WorldSpec, columns: Columns, features: dict, offsets: np.ndarray, bounded: bool
) -> dict[str, np.ndarray]:
    """Reads and checks all numeric columns, file by file; returns arrays `(F,)` or `(F, n)` by column."""
    spaces_ = {column: spec.observation[name] for name, column in columns.pairs()} | {ACTION: spec.action}
    names = [name for name in spaces_ if features[name]["dtype"] not in ("image", "video")]
    names += [*columns.labels.values()]
    names += [TIME] if any(feature["dtype"] == "video" for feature in features.values()) else []
    names += [name for name in (REWARD, SUCCESS, HOLDS, TERMINATED) if name in features]
    total, lengths = int(offsets[-1]), np.diff(offsets)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    order = {"index": np.arange(total), "episode_index": episode, "frame_index": np.arange(total) - offsets[episode]}
    parts: list[dict[str, np.ndarray]] = []
    done = 0
    for path in store.files("data").values():
        table = read_parquet(path, [*names, *order])
        here = slice(done, done + table.num_rows)
        done, part = here.stop, {}
        if done > total:
            raise ValueError(f"{path}: {done} frames; accepted: the {total} of meta/episodes; {RECOLLECT}")
        for name in (*names, *order):
            try:
                values = to_numpy(table[name])
                part[name] = _checked(name, values, spaces_.get(name), bounded)
            except ValueError as error:
                raise ValueError(f"{path}: {name}: {error}; {RECOLLECT}") from error
            if (bad := _infinite(part[name])).any():
                where = _listed(np.unique(episode[here][bad]))
                raise ValueError(
                    f"{path}: {name}: it holds NaN or infinity in the episodes {where}; accepted: finite numbers; "
                    "delete the episodes or remove the feature with lerobot-edit-dataset, or collect it again"
                )
        for name, expected in order.items():
            if not np.array_equal(part[name], expected[here]):
                raise ValueError(f"{path}: {name} is not in order; accepted: frames as they were recorded; {RECOLLECT}")
        parts.append(part)
    if done != total:
        raise ValueError(f"{store.root}/data: {done} frames; accepted: the {total} of meta/episodes; {RECOLLECT}")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _infinite(values: np.ndarray) -> np.ndarray:
    """Returns whether a row of `values` `(rows, ...)` holds NaN or infinity, `(rows,)` bool."""
    return ~np.isfinite(values.reshape(len(values), -1)).all(1)


def _listed(episodes: np.ndarray) -> str:
    return ", ".join(map(str, episodes[:5])) + (f" and {len(episodes) - 5} more" if len(episodes) > 5 else "")


def _checked(name: str, values: np.ndarray, space: spaces.Space | None, bounded: bool) -> np.ndarray:
    """Converts a column to the dtype used in episodes; raises ValueError if a value is not accepted."""
    if space is None:
        return values.astype(np.float32) if values.dtype.kind == "f" else values
    if isinstance(space, spaces.Discrete):
        values = values.astype(np.int64).reshape(-1)
    else:
        assert space.shape is not None
        values = values.astype(np.float32).reshape(len(values), *space.shape)
    if bounded and not _infinite(values).any():
        check_values(name, values, space)
    return values


def _ids(rows: list[dict[str, Any]], action: np.ndarray, vectors: dict[str, Any], offsets: np.ndarray) -> np.ndarray:
    """Returns the recorded seed of every episode, `(N,)`; for those of other tools, a hash of what was recorded.

    So the ids of two datasets differ, and stay the same in whatever order datasets are joined.
    """
    ids = []
    for i, row in enumerate(rows):
        if (seed := row.get("seed")) is None:
            digest = hashlib.sha256(str(i).encode())
            for values in (action, *vectors.values()):
                digest.update(values[offsets[i] : offsets[i + 1]].tobytes())
            seed = int.from_bytes(digest.digest()[:8], "big") >> 1
        ids.append(seed)
    return np.array(ids)


def _terminated(frames: dict[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
    if TERMINATED not in frames:
        return np.zeros(len(offsets) - 1, bool)
    flags: np.ndarray = np.logical_or.reduceat(frames[TERMINATED].reshape(-1).astype(bool), offsets[:-1])
    return flags


def _success(frames: dict[str, np.ndarray], offsets: np.ndarray) -> np.ndarray | None:
    """Returns the success in each frame, `(F,)`; `next.success` does not cover first frames, which become False."""
    if HOLDS in frames:
        return frames[HOLDS].reshape(-1) > 0.5
    if SUCCESS not in frames:
        return None
    after, last = frames[SUCCESS].reshape(-1).astype(bool), offsets[1:] - 1
    success = np.roll(after, 1)
    success[offsets[:-1]] = False
    success[last] |= after[last]  # other tools record no frame after the last action
    return success

"""Writes episodes to a dataset; contains the command that completes an interrupted dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env.data import columns
from dream_env.data.columns import ACTION, DONE, HOLDS, LABELS, REWARD, SUCCESS, TERMINATED, Columns, stored_shape
from dream_env.data.episode import Episode
from dream_env.data.info import INDICES, Head
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.pace import advice
from dream_env.data.parquet import read_parquet, to_numpy
from dream_env.data.reading import contents
from dream_env.spec import WorldSpec, idle_action


class EpisodeWriter:
    """Adds episodes to a dataset. An episode is on disk after `add`, and part of the dataset after `close`.

    Several processes may call `add` on the same folder at the same time; call `close` when all have finished.
    """

    def __init__(self, root: str | Path, spec: WorldSpec | None = None) -> None:
        """Opens a dataset folder; it is created if it does not exist.

        Args:
            root: The folder.
            spec: Spec of the episodes; None for that of the episodes already in the folder.

        Raises:
            ValueError: If the folder contains anything but a dataset, or a dataset with another spec.
        """
        self._store = LeRobotStore(root)
        self._store.check_writable()
        self._count = 0
        head = self._store.head()
        known = WorldSpec.from_json(head.spec) if head else None
        self.spec = spec or known
        if known and self.spec and known != self.spec:
            given, stored = self.spec.to_json(), known.to_json()
            changes = [f"{key} {stored[key]!r}, now {given[key]!r}" for key in given if given[key] != stored[key]]
            raise ValueError(
                f"{self._store.root} holds episodes of another world: {'; '.join(changes)}; choose another folder"
            )

    def __enter__(self) -> EpisodeWriter:
        """Returns the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the writer, also after an error."""
        self.close()

    def seeds(self) -> set[int]:
        """Returns the seeds of all episodes, including staged ones; raises ValueError if a file is damaged."""
        return {row["seed"] for row in [*self._store.rows(), *self._store.staged().values()]}

    def add(self, episode: Episode, order: int | None = None) -> None:
        """Stages one episode.

        Args:
            episode: The episode; its seed must not be in the dataset yet.
            order: Position among the episodes added before the next `close`; None for the order of the calls.

        Raises:
            ValueError: If the episode does not conform to the spec, or its seed is in the dataset already.
        """
        if self.spec is None:
            raise ValueError(f"spec=None; accepted: the WorldSpec of the episodes of {self._store.root}")
        for name in self._store.names():
            if name.endswith(f"-{episode.seed}") and not name.endswith(f"--{episode.seed}"):  # of -7 is "order-kind--7"
                raise ValueError(f"seed={episode.seed} is in {self._store.root} already ({name}); accepted: a new one")
        episode.check(self.spec)
        order, self._count = self._count if order is None else order, self._count + 1
        head, frames = frames_of(episode, self.spec)
        success = {} if episode.success is None else {"success": bool(episode.success[-self.spec.hold_steps :].all())}
        extra = {"kind": episode.kind, "task_name": episode.task, "seed": episode.seed, **success}
        words = episode.instruction or self.spec.name  # LeRobot requires a nonempty text
        self._store.stage(f"{order:08d}-{episode.kind}-{episode.seed}", head, frames, words, extra)

    def close(self) -> int:
        """Consolidates the added episodes and returns the total number; raises ValueError if a file is damaged."""
        return self._store.consolidate()


def frames_of(episode: Episode, spec: WorldSpec) -> tuple[Head, dict[str, np.ndarray]]:
    """Converts an episode to columns.

    Returns:
        The header that all episodes of the dataset share, and the frames `(T + 1, ...)` by column.
    """
    features = columns.features(
        spec,
        goal=tuple(episode.goal or ()),
        reward=episode.reward is not None,
        success=episode.success is not None,
        labels={name: values[0].size for name, values in episode.labels.items()},
    )
    places, length = Columns.of_spec(spec, features), len(episode) + 1

    def padded(values: np.ndarray, last: Any) -> np.ndarray:  # no step follows the last frame
        return np.concatenate([values, np.full_like(values[:1], last)])

    frames = {column: episode.observation[name] for name, column in places.observation.items()}
    for name, column in places.goal.items():
        goal = (episode.goal or {})[name]
        frames[column] = np.broadcast_to(goal, (length, *goal.shape))
    frames[ACTION] = padded(episode.action, idle_action(spec.action))
    frames |= {f"{LABELS}{name}": values for name, values in episode.labels.items()}
    if episode.reward is not None:
        frames[REWARD] = padded(episode.reward, 0)
    if episode.success is not None:
        frames[HOLDS] = episode.success.astype(np.float32)
        frames[SUCCESS] = np.append(episode.success[1:], episode.success[-1])
    last = np.arange(length) == len(episode)
    frames |= {DONE: last, TERMINATED: last & episode.terminated}
    return Head(spec.to_json(), features), {name: frames[name] for name in features}


def described(store: LeRobotStore, rows: list[dict]) -> Iterator[str]:
    """Yields what is read of a dataset, and what is not, one line each."""
    spec = WorldSpec.load(store.spec_path) if store.spec_path.exists() else None
    spec, places, _ = contents(store, rows, spec)
    features, frames, size = store.info()["features"], sum(row["length"] for row in rows), 0
    for name, column in places.pairs():
        shape = spec.observation[name].shape or ()
        line = f"{column}: {shape}"
        if name in spec.pictures:
            size += prod(shape) * (len(rows) if column in places.goal.values() else frames)
            line = f"{column}: pictures {stored_shape(features[column])[:2]}, read as {shape[:2]}"
        yield line
    action, hz = spec.action, f"; {spec.control_hz:g} a second" if spec.control_hz else ""
    if isinstance(action, spaces.Discrete):
        bounds = f"one of {action.n}"
    else:
        bounds = f"{action.shape} from {action.low.min():.3g} to {action.high.max():.3g}"
    yield f"{ACTION}: {bounds}{hz}"
    read = {*(column for _, column in places.pairs()), *places.labels.values(), *INDICES, ACTION, REWARD, SUCCESS}
    if others := sorted({*features} - read - {HOLDS, DONE, TERMINATED}):
        yield f"not read: {', '.join(others)}"
    if size:
        yield f"decoded pictures: {size / 1e9:.2g} GB on disk"
    vectors = [places.observation[name] for name in spec.vectors]
    table = read_parquet(next(iter(store.files("data").values())), [*vectors, "episode_index"])
    shown = [to_numpy(table[column]).reshape(table.num_rows, -1) for column in vectors]
    if note := advice(spec.control_hz, shown, to_numpy(table["episode_index"]), str(store.root)):
        yield note


def inspect(root: Path, /) -> None:
    """Completes an interrupted dataset and prints a summary of it.

    Args:
        root: The dataset folder.
    """
    store = LeRobotStore(root)
    if next(store.root.glob("staging/*"), None):
        EpisodeWriter(root).close()
    rows = store.episodes()
    frames = [row["length"] - 1 for row in rows]
    print(f"{store.root}: {len(rows)} episodes of {min(frames)} to {max(frames)} steps")
    for line in described(store, rows):
        print(f"  {line}")
    groups = Counter((row.get("kind", "unknown"), row.get("task_name", row["tasks"][0])) for row in rows)
    for (kind, task), count in sorted(groups.items()):
        known = [
            row["success"]
            for row in rows
            if (row.get("kind"), row.get("task_name")) == (kind, task) and "success" in row
        ]
        print(
            f"  {kind:8} {task:8} {count:6} episodes" + (f", {100 * np.mean(known):5.1f} % successful" if known else "")
        )


def main() -> None:
    """Runs the command line."""
    import tyro

    try:
        tyro.cli(inspect, prog="python -m dream_env.data.episodes")
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None

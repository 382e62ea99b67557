"""Recorded episodes: one episode, the writer that collects them, and all of them in memory.

On disk they are a LeRobotDataset (see `dream_env.data.lerobot`). `python -m dream_env.data.episodes DIR`
finishes an interrupted dataset and tells what is in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.format import open_memmap
from tqdm import tqdm

from dream_env.checks import check_choice
from dream_env.data.concat import Concat
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.parquet import RECOLLECT, decode_png, read_parquet, row_groups, to_numpy
from dream_env.files import replacing
from dream_env.nicol.constants import ACTION_NAMES, CONTROL_HZ, EPISODE_STEPS, HOLD_STEPS, IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.language import COLORS

KINDS = ("expert", "demo", "misjudge", "attempt", "play", "random", "policy", "dreamt")
"""What acted: see `dream_env.agents.collect`."""

IMAGES, GOAL = "observation.images.workspace", "observation.images.goal"
CUBES = ("cube_0", "cube_1", "cube_2")


def _feature(dtype: str, size: int, names: Sequence[str] | None = None) -> dict:
    return {"dtype": dtype, "shape": [size], "names": None if names is None else list(names)}


_PICTURE = {"dtype": "image", "shape": [IMAGE_SIZE, IMAGE_SIZE, 3], "names": ["height", "width", "channels"]}
FEATURES = {
    IMAGES: _PICTURE,
    GOAL: _PICTURE,
    "observation.state": _feature("float32", 4, PROPRIO_NAMES),
    "action": _feature("float32", 4, ACTION_NAMES),
    "action.expert": _feature("float32", 4, ACTION_NAMES),
    "observation.objects": _feature("float32", 9, [f"{cube}.{axis}" for cube in CUBES for axis in "xyz"]),
    "observation.colors": _feature("int64", 3, CUBES),
    "observation.target": _feature("int64", 1),
    "observation.hand": _feature("float32", 3, ("x", "y", "z")),
    "observation.held": _feature("bool", 1),
    "observation.condition": _feature("bool", 1),
    "next.success": _feature("bool", 1),
    "next.done": _feature("bool", 1),
}
"""Features of a frame; `next.success` is the condition after its action."""

# Shape behind the leading axes and dtype of every array of an episode; T + 1 frames, T actions.
_FRAMES, _STEPS = (EPISODE_STEPS + 1,), (EPISODE_STEPS,)
ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "images": ((*_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
    "goal_image": ((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
    "proprio": ((*_FRAMES, 4), np.float32),
    "action": ((*_STEPS, 4), np.float32),
    "label": ((*_STEPS, 4), np.float32),
    "objects": ((*_FRAMES, 3, 3), np.float32),
    "colors": ((3,), np.int64),
    "hand": ((*_FRAMES, 3), np.float32),
    "held": (_FRAMES, np.bool_),
    "condition": (_FRAMES, np.bool_),
}
_RANGES = {name: (-1, 1) for name in ("proprio", "action", "label")} | {"colors": (0, len(COLORS) - 1)}


@dataclass
class Episode:
    """One episode of T = `EPISODE_STEPS` actions and T + 1 frames.

    Attributes:
        seed: Identity of the episode among those of a dataset.
        kind: What acted, one of `KINDS`.
        task: Name of the task.
        instruction: The task in words.
        images: Pictures of the policy camera, `(T + 1, 64, 64, 3)` uint8.
        goal_image: Picture of the goal, `(64, 64, 3)` uint8.
        proprio: Normalized set-points, `(T + 1, 4)` float32 in [-1, 1].
        action: Executed actions, `(T, 4)` float32 in [-1, 1].
        label: The scripted expert's actions in the same states, `(T, 4)` float32 in [-1, 1].
        objects: World positions of the cubes (m), `(T + 1, 3, 3)` float32.
        colors: Indices of the cubes' colors in `list(COLORS)`, `(3,)` int64.
        target: Index of the named cube, 0 to 2.
        hand: World position of the grasp point (m), `(T + 1, 3)` float32.
        held: Whether the target is in the hand, `(T + 1,)` bool.
        condition: Whether the task's condition holds, `(T + 1,)` bool.

    Raises:
        ValueError: If kind or target is unknown, or an array has another shape or holds values that are not accepted.
    """

    seed: int
    kind: str
    task: str
    instruction: str
    images: np.ndarray
    goal_image: np.ndarray
    proprio: np.ndarray
    action: np.ndarray
    label: np.ndarray
    objects: np.ndarray
    colors: np.ndarray
    target: int
    hand: np.ndarray
    held: np.ndarray
    condition: np.ndarray

    def __post_init__(self) -> None:
        """Checks kind, target, shapes, dtypes and ranges."""
        check_choice("kind", self.kind, KINDS)
        check_choice("target", self.target, range(len(CUBES)))
        for name, (shape, dtype) in ARRAYS.items():
            given = np.asarray(getattr(self, name))
            if given.shape != shape or not np.can_cast(given.dtype, dtype, "same_kind"):
                raise ValueError(
                    f"{name} is {given.dtype} {given.shape}; accepted: {np.dtype(dtype)} {shape} "
                    f"(episodes have {EPISODE_STEPS} actions and {EPISODE_STEPS + 1} frames)"
                )
            if not np.isfinite(given).all():
                raise ValueError(f"{name} holds NaN or infinity; accepted: finite values")
            array: np.ndarray = np.asarray(given, dtype)
            low, high = _RANGES.get(name, (-np.inf, np.inf))
            if array.min() < low or array.max() > high:
                raise ValueError(f"{name} holds {array.min()} to {array.max()}; accepted: {low} to {high}")
            setattr(self, name, array)

    @property
    def success(self) -> bool:
        """Whether the condition held over the last `HOLD_STEPS` frames."""
        return bool(self.condition[-HOLD_STEPS:].all())


class EpisodeWriter:
    """Adds episodes to a dataset: safe on disk after `add`, part of the dataset after `close`.

    Several processes may `add` to one folder at a time; `close` when all have finished.
    """

    def __init__(self, root: str | Path) -> None:
        """Opens the folder `root`, which is made where missing.

        Raises:
            ValueError: If the folder holds something else than episodes.
        """
        self._store = _store(root)
        self._store.check_writable()
        self._count = 0

    def __enter__(self) -> EpisodeWriter:
        """Returns the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the writer, whatever happened."""
        self.close()

    def seeds(self) -> set[int]:
        """Returns the seeds of the episodes in the folder, staged ones included; ValueError names what is damaged."""
        return {row["seed"] for row in [*self._store.rows(), *self._store.staged().values()]}

    def add(self, episode: Episode, order: int | None = None) -> None:
        """Stages one episode.

        Args:
            episode: The episode; its seed must be new to the folder.
            order: Its rank among the episodes added until `close`; by default that of the calls.

        Raises:
            ValueError: If the folder has an episode of this seed.
        """
        for name in self._store.names():
            if name.split("-", 2)[-1] == str(episode.seed):
                raise ValueError(f"seed={episode.seed} is in {self._store.root} already ({name}); accepted: a new one")
        order, self._count = self._count if order is None else order, self._count + 1
        length = EPISODE_STEPS + 1
        still = np.zeros((1, 4), np.float32)
        columns = {
            IMAGES: episode.images,
            GOAL: np.broadcast_to(episode.goal_image, episode.images.shape),
            "observation.state": episode.proprio,
            "action": np.concatenate([episode.action, still]),
            "action.expert": np.concatenate([episode.label, still]),
            "observation.objects": episode.objects.reshape(length, 9),
            "observation.colors": np.tile(episode.colors, (length, 1)),
            "observation.target": np.full(length, episode.target),
            "observation.hand": episode.hand,
            "observation.held": episode.held,
            "observation.condition": episode.condition,
            "next.success": np.append(episode.condition[1:], episode.condition[-1]),
            "next.done": np.arange(length) == EPISODE_STEPS,
        }
        extra = {"kind": episode.kind, "task_name": episode.task, "seed": episode.seed, "success": episode.success}
        self._store.stage(f"{order:08d}-{episode.kind}-{episode.seed}", columns, episode.instruction, extra)

    def close(self) -> int:
        """Consolidates what was added and returns the number of all episodes; ValueError names what is damaged."""
        return self._store.consolidate()


@dataclass
class EpisodeDataset:
    """N episodes in memory; the attributes are those of `Episode`, stacked along a new first axis.

    `images` of a loaded dataset is a read-only memory map of a cache beside the data; of several at once it is a
    `Concat` of theirs, which is indexed like an array.
    """

    seed: np.ndarray
    kind: np.ndarray
    task: np.ndarray
    instruction: np.ndarray
    images: np.ndarray
    goal_image: np.ndarray
    proprio: np.ndarray
    action: np.ndarray
    label: np.ndarray
    objects: np.ndarray
    colors: np.ndarray
    target: np.ndarray
    hand: np.ndarray
    held: np.ndarray
    condition: np.ndarray

    @classmethod
    def load(cls, *roots: str | Path) -> EpisodeDataset:
        """Reads datasets, several as one; pictures are decoded once and then memory-mapped from a folder's cache.

        Raises:
            FileNotFoundError: If there is no dataset, or only staged episodes.
            ValueError: If one is foreign, damaged or half consolidated, with the remedy; or if no folder is named.
        """
        return cls.concatenate([cls._read(root) for root in roots])

    @classmethod
    def _read(cls, root: str | Path) -> EpisodeDataset:
        store = _store(root)
        rows = store.episodes()
        names = [name for name in FEATURES if name not in (IMAGES, GOAL)]
        table = pa.concat_tables(read_parquet(path, names) for path in store.files("data").values())
        length = EPISODE_STEPS + 1
        if any(row["length"] != length for row in rows) or table.num_rows != length * len(rows):
            raise ValueError(
                f"{root} has {table.num_rows} frames in {len(rows)} episodes; accepted: {length} in each; {RECOLLECT}"
            )
        column = {name: to_numpy(table[name]).reshape(len(rows), length, -1) for name in names}
        images, goal_image = _pictures(store, len(rows))
        return cls(
            seed=np.array([row["seed"] for row in rows]),
            kind=np.array([row["kind"] for row in rows]),
            task=np.array([row["task_name"] for row in rows]),
            instruction=np.array([row["tasks"][0] for row in rows]),
            images=images,
            goal_image=goal_image,
            proprio=column["observation.state"],
            action=column["action"][:, :-1],
            label=column["action.expert"][:, :-1],
            objects=column["observation.objects"].reshape(len(rows), length, 3, 3),
            colors=column["observation.colors"][:, 0],
            target=column["observation.target"][:, 0, 0],
            hand=column["observation.hand"],
            held=column["observation.held"][..., 0],
            condition=column["observation.condition"][..., 0],
        )

    @classmethod
    def stack(cls, episodes: Sequence[Episode]) -> EpisodeDataset:
        """Stacks episodes that never were on disk."""
        return cls(**{f.name: np.stack([getattr(e, f.name) for e in episodes]) for f in fields(cls)})

    @classmethod
    def concatenate(cls, parts: Sequence[EpisodeDataset]) -> EpisodeDataset:
        """Joins datasets in their order; one is returned as it is, and the pictures of several stay where they are.

        Raises:
            ValueError: If there is none.
        """
        if not parts:
            raise ValueError("parts=[]; accepted: one dataset or more")
        if len(parts) == 1:
            return parts[0]
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        pictures: Any = Concat(columns.pop("images"))
        return cls(images=pictures, **{name: np.concatenate(column) for name, column in columns.items()})

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return len(self.seed)

    def __getitem__(self, i: int) -> Episode:
        """Returns one episode."""
        row = {f.name: getattr(self, f.name)[i] for f in fields(self)}
        return Episode(**{k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()})

    @property
    def success(self) -> np.ndarray:
        """Whether the condition held over the last `HOLD_STEPS` frames, `(N,)` bool."""
        return np.all(self.condition[:, -HOLD_STEPS:], axis=1)

    def take(self, rows: np.ndarray | slice) -> EpisodeDataset:
        """Returns the episodes at `rows`: indices, a mask, or a slice (which copies nothing but `Concat` pictures)."""
        return EpisodeDataset(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def select(
        self,
        kind: str | None = None,
        task: str | None = None,
        success: bool | None = None,
        limit: int | None = None,
    ) -> EpisodeDataset:
        """Returns the first `limit` episodes of a kind, task and outcome; None takes all.

        Raises:
            ValueError: If no episode has this kind or task.
        """
        mask = np.ones(len(self), bool)
        for name, value in (("kind", kind), ("task", task)):
            if value is not None:
                check_choice(name, value, sorted(set(getattr(self, name).tolist())))
                mask &= getattr(self, name) == value
        if success is not None:
            mask &= self.success == success
        return self.take(np.flatnonzero(mask)[:limit])


def _store(root: str | Path) -> LeRobotStore:
    return LeRobotStore(root, FEATURES, "nicol", CONTROL_HZ)


def _pictures(store: LeRobotStore, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives all pictures and goals from the cache, remade whenever a data file has changed."""
    files = store.files("data").values()
    state = [(path.name, path.parent.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    folder = store.root / "cache"
    images_path, goal_path = folder / f"images-{key}.npy", folder / f"goal_image-{key}.npy"
    if not (images_path.exists() and goal_path.exists()):
        for stale in folder.glob("[!.]*.npy"):  # what begins with a dot, another process may be writing
            stale.unlink(missing_ok=True)
        with replacing(images_path) as images_file, replacing(goal_path) as goal_file:
            images = open_memmap(images_file, "w+", np.uint8, (episodes, *ARRAYS["images"][0]))
            goals = open_memmap(goal_file, "w+", np.uint8, (episodes, *ARRAYS["goal_image"][0]))
            # Frame by frame: a file that another tool has written anew has other row groups than one per episode.
            tables = (table for path in files for table in row_groups(path, [IMAGES, GOAL]))
            frames = (frame for table in tables for frame in zip(table[IMAGES], table[GOAL], strict=True))
            length = EPISODE_STEPS + 1
            bar = tqdm(frames, "decoding pictures", episodes * length, unit="picture", disable=episodes < 100)
            for n, (picture, goal) in enumerate(bar):
                images[divmod(n, length)] = decode_png(picture["bytes"].as_py())
                if n % length == 0:
                    goals[n // length] = decode_png(goal["bytes"].as_py())
    return np.load(images_path, mmap_mode="r"), np.load(goal_path, mmap_mode="r")


def inspect(root: Path, /) -> None:
    """Finishes an interrupted dataset and tells what is in it.

    Args:
        root: The dataset folder.
    """
    EpisodeWriter(root).close()
    rows = _store(root).episodes()
    print(f"{root}: {len(rows)} episodes of {EPISODE_STEPS} steps")
    for (kind, task), count in sorted(Counter((row["kind"], row["task_name"]) for row in rows).items()):
        solved = sum(row["success"] for row in rows if (row["kind"], row["task_name"]) == (kind, task))
        print(f"  {kind:8} {task:8} {count:6} episodes, {100 * solved / count:5.1f} % successful")


if __name__ == "__main__":
    import tyro

    tyro.cli(inspect)

"""NICOL's episodes with the simulator's labels as plain arrays, for fits, clones and studies that need labels.

On disk and in `dream_env.data`, NICOL's episodes have the same format as those of any other robot (here `AnyEpisode`
and `AnyDataset`). This module converts between that format and NICOL's arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.checks import check_choice
from dream_env.data.concat import Concat
from dream_env.data.episode import UNKNOWN
from dream_env.data.episode import Episode as AnyEpisode
from dream_env.data.episodes import EpisodeDataset as AnyDataset
from dream_env.data.episodes import matching
from dream_env.data.writer import EpisodeWriter as AnyWriter
from dream_env.nicol.constants import HOLD_STEPS, IMAGE_SIZE
from dream_env.nicol.language import COLORS
from dream_env.nicol.layout import CUBES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import task_of

KINDS = ("expert", "demo", "misjudge", "attempt", "play", "random", "policy", "dreamt")
"""Behaviors that can have recorded an episode, see `dream_env.agents.nicol.behaviors`."""


def arrays(steps: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """Returns shape and dtype of every array of an episode with `steps` actions."""
    frames = steps + 1
    return {
        "images": ((frames, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
        "goal_image": ((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
        "proprio": ((frames, 4), np.float32),
        "action": ((steps, 4), np.float32),
        "label": ((steps, 4), np.float32),
        "objects": ((frames, 3, 3), np.float32),
        "colors": ((3,), np.int64),
        "hand": ((frames, 3), np.float32),
        "held": ((frames,), np.bool_),
        "condition": ((frames,), np.bool_),
    }


_RANGES = {name: (-1, 1) for name in ("proprio", "action", "label")} | {
    "colors": (0, len(COLORS) - 1),
    "target": (0, CUBES - 1),
}
LABELS = ("expert", "objects", "colors", "target", "hand", "held")
"""Names of the simulator's labels in a dataset; the task's condition is stored as the dataset's success."""


@dataclass
class Episode:
    """One episode of T actions and T + 1 frames, where T is the horizon of the task.

    Attributes:
        seed: Seed of the episode; it identifies the episode within a dataset.
        kind: The behavior that recorded it, one of `KINDS`.
        task: Name of the task.
        instruction: The instruction.
        images: Images of the policy camera, `(T + 1, 64, 64, 3)` uint8.
        goal_image: The goal image, `(64, 64, 3)` uint8.
        proprio: Normalized set-points, `(T + 1, 4)` float32 in [-1, 1].
        action: Executed actions, `(T, 4)` float32 in [-1, 1].
        label: The scripted expert's actions in the same states, `(T, 4)` float32 in [-1, 1].
        objects: Positions of the cubes (m), `(T + 1, 3, 3)` float32.
        colors: Indices of the cubes' colors in `list(COLORS)`, `(3,)` int64.
        target: Index of the target cube, 0 to 2.
        hand: Position of the grasp point (m), `(T + 1, 3)` float32.
        held: Whether the target is held, `(T + 1,)` bool.
        condition: Whether the task's condition holds, `(T + 1,)` bool.

    Raises:
        ValueError: If kind or target is unknown, or an array has the wrong shape, dtype or range.
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
        check_choice("kind", self.kind, (*KINDS, UNKNOWN))
        check_choice("target", self.target, range(CUBES))
        steps = max(1, len(self.proprio) - 1)
        for name, (shape, dtype) in arrays(steps).items():
            given = np.asarray(getattr(self, name))
            if given.shape != shape or not np.can_cast(given.dtype, dtype, "same_kind"):
                raise ValueError(
                    f"{name} is {given.dtype} {given.shape}; accepted: {np.dtype(dtype)} {shape} "
                    f"(this episode has {steps} actions, and so {steps + 1} frames)"
                )
            array: np.ndarray = np.asarray(given, dtype)
            _check(name, array)
            setattr(self, name, array)

    @property
    def success(self) -> bool:
        """Whether the condition held over the last `HOLD_STEPS` frames."""
        return bool(self.condition[-HOLD_STEPS:].all())

    def general(self) -> AnyEpisode:
        """Converts the episode to the format shared by all robots."""
        frames = np.ones((len(self.proprio), 1))
        return AnyEpisode(
            observation={"pixels": self.images, "proprio": self.proprio},
            goal={"pixels": self.goal_image},
            action=self.action,
            success=self.condition,
            labels={
                "expert": self.label,
                "objects": self.objects,
                "colors": frames * self.colors,
                "target": frames[:, 0] * self.target,
                "hand": self.hand,
                "held": self.held,
            },
            **{name: getattr(self, name) for name in ("instruction", "seed", "kind", "task")},
        )


def _check(name: str, array: np.ndarray, place: str = "") -> None:
    """Raises ValueError if an array holds non-finite or out-of-range values; `place` is a prefix for the message."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{place}{name} holds NaN or infinity; accepted: finite values")
    low, high = _RANGES.get(name, (-np.inf, np.inf))
    if array.size and name in _RANGES and (array.min() < low or array.max() > high):
        raise ValueError(f"{place}{name} holds {array.min()} to {array.max()}; accepted: {low} to {high}")


def _of_three_cubes(
    data: AnyDataset, objects: np.ndarray, colors: np.ndarray, root: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """Removes the empty object slots of `objects` and `colors`, for datasets that store five slots.

    Raises:
        ValueError: If the objects of an episode are not three cubes.
    """
    if "shapes" not in data.labels:
        return objects, colors
    shapes = data.stacked("shapes")
    if (shapes[..., :CUBES] != 0).any() or (shapes[..., CUBES:] >= 0).any():
        raise ValueError(
            f"{root} holds varied scenes, of one to five objects; accepted here: scenes of three cubes "
            "(`dream_env.data` reads any)"
        )
    return objects[..., : 3 * CUBES], colors[..., :CUBES]


class EpisodeWriter(AnyWriter):
    """Writes NICOL's episodes to a dataset, see `dream_env.data.writer.EpisodeWriter`."""

    def __init__(self, root: str | Path) -> None:
        """Opens the folder `root`, creating it if missing; raises ValueError if it is not a matching dataset."""
        super().__init__(root, SPEC)

    def add(self, episode: Episode | AnyEpisode, order: int | None = None) -> None:
        """Stages one episode; raises ValueError if the dataset already has an episode with its seed."""
        super().add(episode.general() if isinstance(episode, Episode) else episode, order)


@dataclass
class EpisodeDataset:
    """N episodes in memory, with the attributes of `Episode` stacked along a new first axis.

    `images` of a loaded dataset is a read-only memory map. If several datasets are joined, it is a `Concat` of their
    images, which is indexed like an array.
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
        """Loads one or more datasets as one; raises the errors of `dream_env.data.episodes.EpisodeDataset.load`."""
        return cls.concatenate([cls.of(AnyDataset.load(root, spec=SPEC), root) for root in roots])

    @classmethod
    def of(cls, data: AnyDataset, root: str | Path = "the data set") -> EpisodeDataset:
        """Converts a dataset in the format shared by all robots.

        Args:
            data: The dataset.
            root: Its folder, for error messages.

        Raises:
            ValueError: If it lacks a label of the simulator, its episodes differ in length, or an array has a shape or
                values that NICOL's episodes cannot have.
        """
        if missing := [name for name in LABELS if name not in data.labels] + ["success"] * (data.success is None):
            raise ValueError(
                f"{root} lacks the simulator's labels {', '.join(missing)}; accepted: what `python -m agents.collect` "
                "writes"
            )
        count = len(data)
        try:
            label = {name: data.stacked(name) for name in LABELS}
        except ValueError as error:
            raise ValueError(f"{root}: {error}; load tasks with different horizons one at a time") from error
        label["objects"], label["colors"] = _of_three_cubes(data, label["objects"], label["colors"], root)
        unknown = data.task == UNKNOWN
        task = np.array(
            [task_of(words) if no else old for words, no, old in zip(data.instruction, unknown, data.task, strict=True)]
        )
        columns = {
            "images": data.stacked("pixels"),
            "goal_image": data.goal["pixels"],
            "proprio": data.stacked("proprio"),
            "action": data.stacked("action"),
            "label": label["expert"][:, :-1],
            "objects": label["objects"].reshape(count, -1, 3, 3),
            "colors": label["colors"][:, 0].astype(np.int64),
            "hand": label["hand"],
            "held": label["held"] > 0.5,
            "condition": data.stacked("success"),
        }
        target = label["target"][:, 0].astype(np.int64)
        for name, (shape, _) in arrays(columns["action"].shape[1]).items():
            if columns[name].shape[1:] != shape:
                raise ValueError(f"{root}: {name} is {columns[name].shape[1:]} in an episode; accepted: {shape}")
        for name in ("proprio", "action", "label", "objects", "colors", "hand"):
            _check(name, columns[name], f"{root}: ")
        _check("target", target, f"{root}: ")
        for kind in set(data.kind.tolist()):
            check_choice(f"{root}: kind", kind, (*KINDS, UNKNOWN))
        return cls(data.seed, data.kind, task, data.instruction, target=target, **columns)

    @classmethod
    def stack(cls, episodes: Sequence[Episode]) -> EpisodeDataset:
        """Stacks episodes in memory."""
        return cls(**{f.name: np.stack([getattr(e, f.name) for e in episodes]) for f in fields(cls)})

    @classmethod
    def concatenate(cls, parts: Sequence[EpisodeDataset]) -> EpisodeDataset:
        """Joins datasets in order; a single one is returned unchanged, and images are not copied.

        Raises:
            ValueError: If `parts` is empty.
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

    @property
    def checksum(self) -> int:
        """Checksum of seeds and actions: other recordings have another one."""
        return zlib.crc32(self.seed.tobytes() + self.action.tobytes())

    def take(self, rows: np.ndarray | slice) -> EpisodeDataset:
        """Returns the episodes at `rows`: indices, a mask, or a slice (which copies nothing except `Concat` images)."""
        return EpisodeDataset(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def select(
        self,
        kind: str | None = None,
        task: str | None = None,
        success: bool | None = None,
        limit: int | None = None,
    ) -> EpisodeDataset:
        """Returns the first `limit` episodes of a kind, task and outcome; None selects all.

        Raises:
            ValueError: If no episode has this kind or task.
        """
        mask = None if success is None else self.success == success
        return self.take(matching(self, kind, task, mask)[:limit])

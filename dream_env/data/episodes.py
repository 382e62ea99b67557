"""Datasets of recorded episodes in memory, from any robot or environment.

On disk they are stored as a LeRobotDataset (see `dream_env.data.lerobot`). `python -m dream_env.data.episodes DIR`
completes a dataset whose writing was interrupted, and prints a summary of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env import hub
from dream_env.data.concat import Concat, runs
from dream_env.data.episode import UNKNOWN, Episode
from dream_env.data.reading import read
from dream_env.spec import WorldSpec, idle_action


@dataclass
class EpisodeDataset:
    """N episodes of any length, with their F frames concatenated.

    Images of a loaded dataset are read-only memory maps. If several datasets are joined, they are a `Concat`, which is
    indexed like an array.

    Attributes:
        spec: Spec of the episodes.
        offsets: Index of the first frame of every episode, and F at the end, `(N + 1,)` int64.
        observation: Frames by observation name, `(F, ...)`.
        action: Actions, `(F, n)` float32 or `(F,)` int64; an idle one without meaning in the last frame of an episode.
        terminated: Whether each episode ended in a terminal state, `(N,)` bool.
        instruction: Language instructions, `(N,)` str.
        seed: Unique ids of the episodes, `(N,)` int64.
        kind: Policies that acted, `(N,)` str.
        task: Task names, `(N,)` str.
        reward: Rewards, `(F,)` float32, or None; 0 without meaning in the last frame of an episode.
        success: Whether the task is solved in each frame, `(F,)` bool, or None.
        goal: Goals by observation name, `(N, ...)`, or {}.
        labels: Simulator labels by name, `(F,)` or `(F, n)` float32.
    """

    spec: WorldSpec
    offsets: np.ndarray
    observation: dict[str, np.ndarray]
    action: np.ndarray
    terminated: np.ndarray
    instruction: np.ndarray
    seed: np.ndarray
    kind: np.ndarray
    task: np.ndarray
    reward: np.ndarray | None = None
    success: np.ndarray | None = None
    goal: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, *roots: str | Path, spec: WorldSpec | None = None) -> EpisodeDataset:
        """Reads one or more datasets as one. Images are decoded once and then memory-mapped from a cache.

        Args:
            *roots: Folders in the LeRobotDataset v3 layout, written by any tool; or `hf://user/name@revision`.
            spec: Spec of the episodes; None to read it from meta/spec.json, or to derive it from the columns if that
                file does not exist.

        Raises:
            FileNotFoundError: If a folder contains no dataset, or only staged episodes.
            ValueError: If a dataset is damaged or only partly consolidated (the message says how to repair it), if the
                datasets do not fit together, or if no folder, or one twice, is given.
        """
        places = [str(root) if hub.is_hub_name(root) else Path(root).expanduser().resolve() for root in roots]
        if twice := [str(root) for root, place in zip(roots, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"data={twice} are the same folder; accepted: each folder once")
        return cls.concatenate([cls(**read(root, spec)) for root in roots])

    @classmethod
    def from_pretrained(cls, repo: str, revision: str | None = None) -> EpisodeDataset:
        """Reads a dataset from the Hugging Face Hub.

        Args:
            repo: "user/name".
            revision: Branch, tag or commit; None for the latest.

        Raises:
            FileNotFoundError: If it does not exist, or if the Hub cannot be reached and it is not in the cache.
            ImportError: If `huggingface_hub` is not installed.
            ValueError: If the repository has no files that can be loaded safely.
        """
        return cls.load(hub.pull(repo, "dataset", revision))

    @classmethod
    def stack(cls, episodes: Sequence[Episode], spec: WorldSpec) -> EpisodeDataset:
        """Creates a dataset from episodes in memory.

        Rewards, success and labels that only some of them have are left out.

        Raises:
            ValueError: If there are no episodes, or one does not conform to `spec`.
        """
        if not episodes:
            raise ValueError("episodes=[]; accepted: one or more")
        for episode in episodes:
            episode.check(spec)
        first = episodes[0]

        def steps(name: str, last: Any) -> np.ndarray:
            values = (getattr(episode, name) for episode in episodes)
            return np.concatenate([part for each in values for part in (each, np.full_like(each[:1], last))])

        return cls(
            spec=spec,
            offsets=np.cumsum([0, *(len(episode) + 1 for episode in episodes)]),
            observation={k: np.concatenate([each.observation[k] for each in episodes]) for k in first.observation},
            action=steps("action", idle_action(spec.action)),
            reward=None if any(each.reward is None for each in episodes) else steps("reward", 0),
            success=None
            if any(each.success is None for each in episodes)
            else np.concatenate([each.success for each in episodes if each.success is not None]),
            goal={k: np.stack([(each.goal or {})[k] for each in episodes]) for k in first.goal or {}},
            labels={
                k: np.concatenate([each.labels[k] for each in episodes])
                for k in first.labels
                if all(k in each.labels for each in episodes)
            },
            **{
                name: np.array([getattr(each, name) for each in episodes])
                for name in ("terminated", "instruction", "seed", "kind", "task")
            },
        )

    @classmethod
    def concatenate(cls, parts: Sequence[EpisodeDataset]) -> EpisodeDataset:
        """Joins datasets in order, without copying images. A single dataset is returned as it is.

        Rewards, success, goals and labels are dropped unless all of the datasets have them.

        Raises:
            ValueError: If there are no datasets, or they differ in observations, actions, control rate, `hold_steps` or
                preparation.
        """
        if not parts:
            raise ValueError("parts=[]; accepted: one dataset or more")
        if len(parts) == 1:
            return parts[0]
        spec, first = reduce(_joint, [part.spec for part in parts]), parts[0]
        goal, labels = ([each for each in getattr(first, name) if all(each in getattr(part, name) for part in parts)]
                        for name in ("goal", "labels"))  # fmt: skip

        def flat(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if any(value is None for value in values) else np.concatenate(values)

        def join(name: str, key: str) -> Any:
            values = [getattr(part, name)[key] for part in parts]
            return Concat(values) if values[0].ndim == 4 else np.concatenate(values)

        return cls(
            spec=replace(spec, goals=spec.goals and bool(goal)),
            offsets=np.cumsum([0, *np.concatenate([np.diff(part.offsets) for part in parts])]),
            observation={key: join("observation", key) for key in first.observation},
            goal={key: join("goal", key) for key in goal},
            labels={key: join("labels", key) for key in labels},
            **{
                name: flat(name)
                for name in ("action", "reward", "success", "terminated", "instruction", "seed", "kind", "task")
            },
        )

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return len(self.seed)

    def __getitem__(self, i: int) -> Episode:
        """Returns episode `i`."""
        i = range(len(self))[i]
        frames, steps = slice(*self.offsets[i : i + 2]), slice(self.offsets[i], self.offsets[i + 1] - 1)
        return Episode(
            observation={name: np.asarray(values[frames]) for name, values in self.observation.items()},
            action=self.action[steps],
            reward=None if self.reward is None else self.reward[steps],
            terminated=bool(self.terminated[i]),
            success=None if self.success is None else self.success[frames],
            instruction=str(self.instruction[i]),
            goal={name: np.asarray(values[i]) for name, values in self.goal.items()} if self.spec.goals else None,
            labels={name: values[frames] for name, values in self.labels.items()},
            seed=int(self.seed[i]),
            kind=str(self.kind[i]),
            task=str(self.task[i]),
        )

    @property
    def lengths(self) -> np.ndarray:
        """Number of actions of every episode, `(N,)`."""
        return np.diff(self.offsets) - 1

    @property
    def checksum(self) -> int:
        """Checksum of lengths, seeds and actions: other recordings have another one."""
        return zlib.crc32(b"".join(part.tobytes() for part in (self.offsets, self.seed, self.action)))

    @property
    def solved(self) -> np.ndarray:
        """Whether the task was solved in all of the last `spec.hold_steps` frames of each episode, `(N,)` bool.

        Raises:
            ValueError: If the dataset has no success labels.
        """
        if self.success is None:
            raise ValueError("these episodes have no success labels; accepted: a data set with `next.success`")
        last = self.offsets[1:, None] - 1 - np.arange(self.spec.hold_steps)
        return self.success[np.maximum(last, self.offsets[:-1, None])].all(1)

    def stacked(self, name: str) -> np.ndarray:
        """Returns one array with an axis for episodes, if all episodes have the same length T.

        Args:
            name: Name of an observation or a label, "success", "action" or "reward".

        Returns:
            `(N, T, ...)` for "action" and "reward", else `(N, T + 1, ...)`.

        Raises:
            ValueError: If the name is unknown, or episodes differ in length.
        """
        flat: dict[str, Any] = {**self.observation, **self.labels, "success": self.success, "reward": self.reward}
        values: Any = (flat | {"action": self.action}).get(name)
        if values is None:
            raise ValueError(
                f"name={name!r}; accepted: {', '.join([k for k, v in flat.items() if v is not None])}, action"
            )
        lengths = np.diff(self.offsets)
        if (lengths != lengths[0]).any():
            raise ValueError(f"episodes have {lengths.min()} to {lengths.max()} frames; accepted: equal lengths")
        shape = (-1, lengths[0], *values.shape[1:])
        if isinstance(values, Concat):
            return Concat([part.reshape(shape) for part in values.parts])  # type: ignore[return-value]
        frames = values.reshape(shape)
        return frames[:, :-1] if name in ("action", "reward") else frames

    def take(self, rows: np.ndarray | slice) -> EpisodeDataset:
        """Returns the episodes at `rows`: indices, a mask, or a slice. Pictures are not copied, see `Concat`."""
        chosen = np.arange(len(self))[rows]
        # Where runs of consecutive episodes begin and end.
        begins = self.offsets[chosen[np.diff(chosen, prepend=-2) != 1]]
        ends = self.offsets[chosen[np.diff(chosen, append=-2) != 1] + 1]
        if len(begins) == 1:
            frames: Any = slice(begins[0], ends[0])
        else:
            frames = np.concatenate([np.arange(a, b) for a, b in zip(begins, ends, strict=True)] or [np.zeros(0, int)])
        part: dict[str, Any] = {
            name: {
                key: runs(values, begins, ends) if values.ndim == 4 else values[frames]
                for key, values in getattr(self, name).items()
            }
            for name in ("observation", "labels")
        }
        part |= {name: getattr(self, name)[chosen] for name in ("terminated", "instruction", "seed", "kind", "task")}
        for name in ("action", "reward", "success"):
            values = getattr(self, name)
            part[name] = None if values is None else values[frames]
        goal = {key: values[chosen] for key, values in self.goal.items()}
        return replace(self, offsets=np.cumsum([0, *np.diff(self.offsets)[chosen]]), goal=goal, **part)

    def select(
        self,
        kind: str | None = None,
        task: str | None = None,
        success: bool | None = None,
        limit: int | None = None,
    ) -> EpisodeDataset:
        """Returns the episodes of a kind, task and outcome.

        Args:
            kind: Kind of the episodes; None for all.
            task: Task name; None for all.
            success: Whether the episodes are solved; None for all.
            limit: Maximum number of episodes, taken from the start; None for all.

        Raises:
            ValueError: If no episode has this kind or task, or `success` is given and there are no success labels.
        """
        return self.take(matching(self, kind, task, None if success is None else self.solved == success)[:limit])


def matching(data: Any, kind: str | None, task: str | None, mask: np.ndarray | None) -> np.ndarray:
    """Returns the rows of `data` that have a kind and a task and are in a mask; None selects all.

    Raises:
        ValueError: If the kind or the task does not occur in `data`.
    """
    mask = np.ones(len(data), bool) if mask is None else mask
    for name, value in (("kind", kind), ("task", task)):
        values = getattr(data, name)
        if value is None:
            continue
        if value not in (known := sorted(set(values.tolist()))):
            why = (
                f" (meta/episodes has lost the column {name}: another tool has written it)" if UNKNOWN in known else ""
            )
            raise ValueError(f"{name}={value!r} is not known; accepted: {', '.join(map(repr, known))}{why}")
        mask = mask & (values == value)
    return np.flatnonzero(mask)


def _joint(a: WorldSpec, b: WorldSpec) -> WorldSpec:
    """Returns the spec of two joined datasets: that of the first, with bounds that include both."""

    def wider(name: str, one: spaces.Space | None, other: spaces.Space | None) -> spaces.Space:
        if one is not None and one == other:
            return one
        boxes = isinstance(one, spaces.Box) and isinstance(other, spaces.Box) and one.shape == other.shape
        if boxes and one.dtype == other.dtype:  # type: ignore[union-attr]
            low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)  # type: ignore[union-attr]
            return spaces.Box(low, high, one.shape, one.dtype)  # type: ignore[union-attr, arg-type]
        if isinstance(one, spaces.Discrete) and isinstance(other, spaces.Discrete) and one.start == other.start:
            return max(one, other, key=lambda each: each.n)
        raise ValueError(f"data sets differ in {name}: {one} and {other}; accepted: data sets of one robot")

    for name in ("preparation", "control_hz", "hold_steps"):
        one, other = getattr(a, name), getattr(b, name)
        if one != other:
            raise ValueError(
                f"data sets differ in {name}: {one} and {other}; accepted: data sets of one robot with the same {name}"
            )
    names: Mapping[str, Any] = a.observation.spaces | b.observation.spaces
    observation = {n: wider(n, a.observation.spaces.get(n), b.observation.spaces.get(n)) for n in names}
    return replace(
        a,
        observation=spaces.Dict(observation),
        action=wider("action", a.action, b.action),  # type: ignore[arg-type]
        horizon=None if a.horizon is None or b.horizon is None else max(a.horizon, b.horizon),
        instructions=a.instructions or b.instructions,
        unknown_words=a.unknown_words or b.unknown_words,
        goals=a.goals and b.goals,
    )


if __name__ == "__main__":
    from dream_env.data.writer import main

    main()

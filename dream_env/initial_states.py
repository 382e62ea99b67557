"""Initial states of dreams: recorded observations with their goals and instructions."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from dream_env.checks import check_choice
from dream_env.files import check_npz, replacing
from dream_env.language import embedder
from dream_env.spec import WorldSpec, is_picture
from dream_env.world_models.protocol import State, WorldModel, take

FILE = "initial_states.npz"
"""Name of the file in the checkpoint folder of a world model."""
BLOCK = 8
"""Number of neighboring states that are encoded together."""
_PARTS = {"observation": "observation.", "goal_observation": "goal_observation."}
"""Attributes that are dicts of arrays, and the prefix of their keys in a file."""
_COLUMNS = {"goal": np.integer, "task": np.str_, "instruction": np.str_, "step": np.integer}


@dataclass(eq=False)
class InitialStates:
    """N recorded states. They are stored as observations, so one file serves every world model of the same world.

    Attributes:
        observation: Parts of the observations by name, `(N, ...)`: images uint8, vectors float32.
        goal_observation: Parts of the goal observations by name, `(M, ...)`; empty in a world without goals.
        goal: Row of `goal_observation` for each state, `(N,)` int.
        task: Task name, `(N,)` str; "" in a world without tasks.
        instruction: Language instruction, `(N,)` str; "" in a world without instructions.
        step: Control step of the episode at which the state was recorded, `(N,)` int; 0 at an episode's start.

    Raises:
        ValueError: If an array has another shape, type or values than described above.
    """

    observation: dict[str, np.ndarray]
    goal_observation: dict[str, np.ndarray]
    goal: np.ndarray
    task: np.ndarray
    instruction: np.ndarray
    step: np.ndarray
    _memo: WeakKeyDictionary[WorldModel, dict[str, Any]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Checks the arrays."""
        if not self.observation or not len(self):
            raise ValueError("initial states: no rows; accepted: at least one state")
        goals = {len(part) for part in self.goal_observation.values()} or {1}
        for name, part in (*self.observation.items(), *self.goal_observation.items()):
            if part.dtype not in (np.uint8, np.float32) or not np.isfinite(part).all():
                raise ValueError(f"initial states: {name} is {part.dtype}; accepted: uint8, or finite float32")
        for name, kind in _COLUMNS.items():
            array = getattr(self, name)
            if array.shape != (len(self),) or not np.issubdtype(array.dtype, kind):
                raise ValueError(f"initial states: {name} is {array.dtype} {array.shape}; accepted: ({len(self)},)")
        if len({len(part) for part in self.observation.values()} | {len(self)}) > 1 or len(goals) > 1:
            raise ValueError("initial states: parts differ in length; accepted: a row of each for every state")
        if self.goal.min() < 0 or self.goal.max() >= max(goals):
            raise ValueError(f"initial states: goal holds rows outside 0..{max(goals) - 1}")

    def check_world(self, spec: WorldSpec) -> None:
        """Checks that the observations are those of a world.

        Raises:
            ValueError: If a part of the world's observation is missing or has another shape or type, or goals are
                missing.
        """
        for name, space in spec.observation.spaces.items():
            found = [parts.get(name) for parts in (self.observation, self.goal_observation)]
            for part in found[: 1 if found[1] is None else 2]:  # goals may lack vectors
                if part is None or part.shape[1:] != space.shape or (part.dtype == np.uint8) != is_picture(space):
                    held = "lack it" if part is None else f"hold {part.dtype} {part.shape[1:]}"
                    raise ValueError(
                        f"initial_states: {name!r} of {spec.name} is {space.dtype} {space.shape}, and they {held}; "
                        "accepted: states recorded in that world"
                    )
        if spec.goals and not self.goal_observation:
            raise ValueError(f"initial_states: they lack the goals of {spec.name}; accepted: states with goals")

    def __len__(self) -> int:
        """Returns the number of states."""
        return len(next(iter(self.observation.values())))

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes to copy or pickle: all except the cache of encoded states."""
        return {name: value for name, value in vars(self).items() if name != "_memo"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores what `__getstate__` returned, with an empty cache."""
        vars(self).update(state, _memo=WeakKeyDictionary())

    # --- files

    @staticmethod
    def load(path: str | Path) -> InitialStates:
        """Reads a file. An unchanged file is read once per process, and the encoded states are shared.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it is damaged or contains something else.
        """
        path = Path(path).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(
                f"initial_states: {path} does not exist; `python -m agents.fit` writes such a file next to its "
                "world model, and any file of `InitialStates.save` is accepted"
            )
        return _load(path, path.stat().st_mtime_ns)

    def save(self, path: str | Path) -> None:
        """Writes a compressed `.npz` without pickle, atomically."""
        arrays = {name: getattr(self, name) for name in _COLUMNS}
        for part, prefix in _PARTS.items():
            arrays |= {prefix + name: array for name, array in getattr(self, part).items()}
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def select(self, index: np.ndarray) -> InitialStates:
        """Returns the states at indices or in a mask; `goal_observation` is kept whole."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return InitialStates({k: v[index] for k, v in self.observation.items()}, self.goal_observation, **columns)

    # --- drawing

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Task names, sorted."""
        return tuple(np.unique(self.task).tolist())

    def chances(self, task: str = "all", middle_share: float = 0.0, among: np.ndarray | None = None) -> np.ndarray:
        """Returns the probability of each state to be drawn as an initial state, `(N,)`.

        All tasks are equally likely. Within a task, mid-episode states together have the probability `middle_share` and
        episode starts the rest; within each of these two groups all states are equally likely.

        Args:
            task: Task name, or "all".
            middle_share: Share of mid-episode states, 0 to 1.
            among: Mask of the states that may be drawn, `(N,)` bool; None for all. The shares of missing groups go to
                the others.

        Raises:
            ValueError: If a group with a nonzero share is empty (only checked without `among`), or all of them are.
        """
        check_choice("task", task, (*self.tasks, "all"))
        chances, asked = np.zeros(len(self)), np.ones(len(self), bool) if among is None else among
        for name in self.tasks if task == "all" else (task,):
            own = asked & (self.task == name)
            for kind, states, share, remedy in (
                ("episode starts", own & (self.step == 0), 1 - middle_share, "starts=1.0"),
                ("mid-episode states", own & (self.step > 0), middle_share, "starts='episode' (--starts episode)"),
            ):
                if among is None and share and not states.any():
                    raise ValueError(
                        f"starts: there are no {kind} of task {name!r} among the initial states; accepted: {remedy}"
                    )
                chances[states] = share / max(1, states.sum())
        if not chances.any():
            raise ValueError("no initial state matches; accepted: a selection that contains at least one state")
        return chances / chances.sum()

    # --- through a world model

    def states(self, model: WorldModel, rows: np.ndarray) -> State:
        """Encodes the states in rows `(K,)` with their instructions. Each is encoded once per model and then cached."""
        return self._encoded(model, "observation", rows)

    def goals(self, model: WorldModel, rows: np.ndarray) -> State:
        """Encodes the goals of rows `(K,)`, with the instructions of the rows, which some embeddings depend on."""
        state = self._encoded(model, "goal_observation", self.goal[rows])
        if model.spec.instructions:
            state["instruction"] = torch.from_numpy(self.words(model, rows)).to(model.device)
        return state

    def words(self, model: WorldModel, rows: np.ndarray | slice) -> np.ndarray:
        """Returns the model's embeddings of the instructions in rows `(K,)`: `(K, I)` float32."""
        memo = self._memo.setdefault(model, {})
        if "words" not in memo:
            sentences, inverse = np.unique(self.instruction, return_inverse=True)
            embed = embedder(model)
            memo["words"] = np.stack([embed(str(sentence)) for sentence in sentences])[inverse]
        return memo["words"][rows]

    # The last bits of an encoded state depend on what is encoded with it, so that must not depend on earlier calls.
    @torch.inference_mode(False)  # called in inference mode, but the cache may be used with gradients
    @torch.no_grad()
    def _encoded(self, model: WorldModel, part: str, rows: np.ndarray) -> State:
        arrays, memo = getattr(self, part), self._memo.setdefault(model, {})
        count = len(next(iter(arrays.values())))
        table, ready = memo.get(part, ({}, np.zeros(count, bool)))
        for first in BLOCK * np.unique(rows[~ready[rows]] // BLOCK):
            block = slice(first, first + BLOCK)
            given = {name: torch.from_numpy(array[block]).to(model.device) for name, array in arrays.items()}
            if part == "observation" and model.spec.instructions:
                given["instruction"] = torch.from_numpy(self.words(model, block)).to(model.device)
            encoded = model.encode(given)
            if not table:
                table = {name: tensor.new_empty(count, *tensor.shape[1:]) for name, tensor in encoded.items()}
            for name, tensor in encoded.items():
                table[name][block] = tensor
            ready[block] = True
            memo[part] = (table, ready)
        return take(table, torch.from_numpy(rows).to(model.device))


def draw(chances: np.ndarray, uniform: Any) -> Any:
    """Maps random numbers in [0, 1), `()` or `(K,)`, to rows that are drawn with the probabilities `chances` `(N,)`."""
    below = np.cumsum(chances)
    return np.minimum(np.searchsorted(below, uniform, side="right"), np.flatnonzero(chances)[-1])


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> InitialStates:
    """Reads a file. `changed`, its modification time, is part of the cache key, so a rewritten file is read again."""
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        parts: dict[str, Any] = {
            part: {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            for part, prefix in _PARTS.items()
        }
        columns = {name: arrays[name] for name in _COLUMNS}
        return InitialStates(**parts, **columns)
    except (KeyError, TypeError, OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} holds no initial states or is damaged ({error}); accepted: a file of `InitialStates.save`"
        ) from error

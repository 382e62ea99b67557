"""Where dreams begin: recorded observations, with the goals and sentences that belong to them."""

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
from dream_env.world_models.protocol import State, WorldModel, take

FILE = "initial_states.npz"
"""Name of the file beside a world model."""
_PARTS = {"observation": "observation.", "goal_observation": "goal_observation."}
"""Dicts of arrays, and what their names begin with in a file."""
_COLUMNS = {"goal": np.integer, "task": np.str_, "instruction": np.str_, "step": np.integer}


@dataclass(eq=False)
class InitialStates:
    """Recorded states, row by row; observations only, so the same file serves every world model of a world.

    Attributes:
        observation: The parts of the observations by name, `(N, ...)`: pictures uint8, vectors float32.
        goal_observation: The parts of the goals' observations, `(M, ...)`; empty in a world without goals.
        goal: Row of `goal_observation` that belongs to each state, `(N,)` int.
        task: Name of the task, `(N,)` str; "" in a world without tasks.
        instruction: The sentence, `(N,)` str; "" in a world without sentences.
        step: Step of the episode at which the state was recorded, `(N,)` int; 0 is an episode's start.

    Raises:
        ValueError: If an array's shape, type or values are not the ones above.
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
        """Checks every array."""
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

    def __len__(self) -> int:
        """Number of states."""
        return len(next(iter(self.observation.values())))

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle takes along: all but what was encoded."""
        return {name: value for name, value in vars(self).items() if name != "_memo"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over what `__getstate__` gave."""
        vars(self).update(state, _memo=WeakKeyDictionary())

    # --- files

    @staticmethod
    def load(path: str | Path) -> InitialStates:
        """Reads a file; one that has not been written anew is read once per process, and its encoded rows are shared.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is truncated or holds something else.
        """
        path = Path(path).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(
                f"initial_states: there is no {path}; `python -m agents.fit` writes one beside its world model, and "
                "any file of `InitialStates.save` is accepted"
            )
        return _load(path, path.stat().st_mtime_ns)

    def save(self, path: str | Path) -> None:
        """Writes a compressed npz without pickle; a reader never sees half a file."""
        arrays = {name: getattr(self, name) for name in _COLUMNS}
        for part, prefix in _PARTS.items():
            arrays |= {prefix + name: array for name, array in getattr(self, part).items()}
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def select(self, index: np.ndarray) -> InitialStates:
        """Returns some of the states, by indices or a mask; the goals stay."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return InitialStates({k: v[index] for k, v in self.observation.items()}, self.goal_observation, **columns)

    # --- drawing

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, sorted."""
        return tuple(np.unique(self.task).tolist())

    def chances(self, task: str = "all", middle_share: float = 0.0, among: np.ndarray | None = None) -> np.ndarray:
        """Returns the probability `(N,)` that a dream begins with each state.

        Tasks are alike likely; within a task episodes' starts and mid-episode states have their shares, and among those
        all states are alike likely.

        Args:
            task: Name of a task, or "all".
            middle_share: Share of mid-episode states, 0 to 1.
            among: The states that are in question, `(N,)` bool; None for all.

        Raises:
            ValueError: If there are no such states.
        """
        check_choice("task", task, (*self.tasks, "all"))
        chances, asked = np.zeros(len(self)), np.ones(len(self), bool) if among is None else among
        for name in self.tasks if task == "all" else (task,):
            own = asked & (self.task == name)
            for kind, states, share in (
                ("episode starts", own & (self.step == 0), 1 - middle_share),
                ("mid-episode states", own & (self.step > 0), middle_share),
            ):
                if among is None and share and not states.any():
                    raise ValueError(
                        f"starts: there are no {kind} of task {name!r} among the initial states; accepted: a share of "
                        "mid-episode states that they can serve"
                    )
                chances[states] = share / max(1, states.sum())
        if not chances.any():
            raise ValueError("there is no such initial state; accepted: what `InitialStates` holds")
        return chances / chances.sum()

    # --- through a world model

    def states(self, model: WorldModel, rows: np.ndarray) -> State:
        """Encodes states `(K,)` and their sentences; each is encoded once per model, when it is first asked for."""
        return self._encoded(model, "observation", rows)

    def goals(self, model: WorldModel, rows: np.ndarray) -> State:
        """Encodes the goals of states `(K,)`, and gives them the states' sentences, as some embeddings ask for them."""
        state = self._encoded(model, "goal_observation", self.goal[rows])
        if model.spec.instructions:
            state["instruction"] = torch.from_numpy(self.words(model, rows)).to(model.device)
        return state

    def words(self, model: WorldModel, rows: np.ndarray) -> np.ndarray:
        """Embeds the sentences of states `(K,)` as the world model does, `(K, I)` float32."""
        memo = self._memo.setdefault(model, {})
        if "words" not in memo:
            sentences, inverse = np.unique(self.instruction, return_inverse=True)
            embed = embedder(model)
            memo["words"] = np.stack([embed(str(sentence)) for sentence in sentences])[inverse]
        return memo["words"][rows]

    @torch.inference_mode(False)  # dreams ask in inference mode, but learners may take gradients
    @torch.no_grad()
    def _encoded(self, model: WorldModel, part: str, rows: np.ndarray) -> State:
        arrays, memo = getattr(self, part), self._memo.setdefault(model, {})
        count = len(next(iter(arrays.values())))
        table, ready = memo.get(part, ({}, np.zeros(count, bool)))
        missing = np.unique(rows[~ready[rows]])
        if len(missing):
            given = {name: torch.from_numpy(array[missing]).to(model.device) for name, array in arrays.items()}
            if part == "observation" and model.spec.instructions:
                given["instruction"] = torch.from_numpy(self.words(model, missing)).to(model.device)
            encoded = model.encode(given)
            if not table:
                table = {name: tensor.new_empty(count, *tensor.shape[1:]) for name, tensor in encoded.items()}
            where = torch.from_numpy(missing).to(model.device)
            for name, tensor in encoded.items():
                table[name][where] = tensor
            ready[missing] = True
            memo[part] = (table, ready)
        return take(table, torch.from_numpy(rows).to(model.device))


def draw(chances: np.ndarray, uniform: Any) -> Any:
    """Turns random numbers in [0, 1), `()` or `(K,)`, into rows of initial states with these `chances` `(N,)`."""
    below = np.cumsum(chances)
    return np.minimum(np.searchsorted(below, uniform, side="right"), np.flatnonzero(chances)[-1])


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> InitialStates:
    """Reads a file; `changed`, its time of change, makes a rewritten file a new entry."""
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

"""Where dreams begin: recorded states, the pictures of their goals and their instructions."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from dream_env.files import replacing
from dream_env.language import embedder
from dream_env.nicol.constants import IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.language import color_of
from dream_env.world_models.legacy import LatentState, WorldModel

if TYPE_CHECKING:
    from dream_env.data.episodes import Episode, EpisodeDataset

MIDDLE_STEPS = (3, 18)
"""First and last step of an episode that may become a mid-episode start."""


@dataclass(eq=False)
class InitialStates:
    """Recorded starts, row by row; pictures only, so one bank serves every world model.

    Attributes:
        images: Pictures of the starts, `(N, 64, 64, 3)` uint8.
        proprio: Set-points, `(N, 4)` float32 in [-1, 1].
        goal_images: Pictures of the goals, `(M, 64, 64, 3)` uint8.
        goal: Row of `goal_images` that belongs to each start, `(N,)` int64.
        task: Name of the task, `(N,)` str.
        instruction: The sentence, `(N,)` str.
        step: Step of the episode at which the state was recorded, `(N,)` int64; 0 is an episode's
            start.

    Raises:
        ValueError: If an array's shape or type is not the one above, or a goal index points
            nowhere.
    """

    images: np.ndarray
    proprio: np.ndarray
    goal_images: np.ndarray
    goal: np.ndarray
    task: np.ndarray
    instruction: np.ndarray
    step: np.ndarray
    _memo: WeakKeyDictionary[WorldModel, dict[str, Any]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Checks every array."""
        rows, picture = len(self.images), (IMAGE_SIZE, IMAGE_SIZE, 3)
        accepted = {
            "images": ((rows, *picture), np.uint8),
            "proprio": ((rows, len(PROPRIO_NAMES)), np.float32),
            "goal_images": ((len(self.goal_images), *picture), np.uint8),
            "goal": ((rows,), np.integer),
            "task": ((rows,), np.str_),
            "instruction": ((rows,), np.str_),
            "step": ((rows,), np.integer),
        }
        for name, (shape, kind) in accepted.items():
            array = getattr(self, name)
            if array.shape != shape or not np.issubdtype(array.dtype, kind):
                raise ValueError(
                    f"start bank: {name} is {array.dtype} {array.shape}; accepted: {kind.__name__} {shape}"
                )
        if not rows:
            raise ValueError("start bank: no rows; accepted: at least one start")
        if not (np.abs(self.proprio) <= 1).all():
            raise ValueError("start bank: proprio holds NaN or values outside [-1, 1]; accepted: normalized set-points")
        if self.goal.min() < 0 or self.goal.max() >= len(self.goal_images):
            raise ValueError(f"start bank: goal holds rows outside 0..{len(self.goal_images) - 1}")

    def __len__(self) -> int:
        """Number of starts."""
        return len(self.images)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle takes along: all but what was encoded."""
        return {name: value for name, value in vars(self).items() if name != "_memo"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over what `__getstate__` gave."""
        vars(self).update(state, _memo=WeakKeyDictionary())

    # --- files

    @staticmethod
    def load(path: str | Path) -> InitialStates:
        """Reads a bank; a file is read once per process, and its encoded rows are shared.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is truncated or not a start bank.
        """
        path = Path(path).resolve()
        if not path.is_file():
            raise FileNotFoundError(
                f"bank: no start bank at {path}; `python -m agents.fit` writes one beside its world model, and any npz "
                "file of `InitialStates.save` is accepted as `bank`"
            )
        return _load(path, path.stat().st_mtime_ns)

    def save(self, path: str | Path) -> None:
        """Writes the bank as a compressed npz without pickle; a reader never sees half a file."""
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **{n: getattr(self, n) for n in _NAMES})

    @classmethod
    def from_episodes(
        cls, episodes: EpisodeDataset, *, middles: int = 3, limit: int | None = None, seed: int = 0
    ) -> InitialStates:
        """Collects starts from recorded episodes.

        Only episodes of the expert whose condition held at their end count: theirs is a start that
        can be solved, and a goal picture that shows it solved. States in which the condition
        already holds are left out. Besides random steps, the last step before the hand closes and
        the one before the cube is held are taken: near contact a dream is least sure, and practice
        pays most.

        Args:
            episodes: The episodes; those that are not used are skipped.
            middles: Random mid-episode states per episode, from steps 3 to 18.
            limit: Largest number of episodes per task; None for all.
            seed: Seed of the random steps.

        Raises:
            ValueError: If no episode qualifies.
        """
        rng = np.random.default_rng(seed)
        taken: dict[str, int] = {}
        goals: list[np.ndarray] = []
        rows: list[tuple[np.ndarray, np.ndarray, int, str, str, int]] = []
        shown = np.isin(episodes.kind, ("expert", "demo")) & episodes.success & ~episodes.condition[:, 0]
        for i in np.flatnonzero(shown).tolist():
            if limit is not None and taken.get(str(episodes.task[i]), 0) >= limit:
                continue
            episode = episodes[i]
            taken[episode.task] = taken.get(episode.task, 0) + 1
            for step in (0, *_middle_steps(episode, middles, rng)):
                image, proprio = episode.images[step], episode.proprio[step]
                rows.append((image, proprio, len(goals), episode.task, episode.instruction, step))
            goals.append(episode.goal_image)
        if not rows:
            raise ValueError(
                "episodes hold no start; accepted: expert or demo episodes that begin unsolved and end in success"
            )
        images, proprios, goal, task, instruction, steps = zip(*rows, strict=True)
        return cls(
            images=np.stack(images),
            proprio=np.stack(proprios).astype(np.float32),
            goal_images=np.stack(goals),
            goal=np.array(goal),
            task=np.array(task),
            instruction=np.array(instruction),
            step=np.array(steps),
        )

    # --- through the world model

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in the bank, sorted."""
        return tuple(np.unique(self.task).tolist())

    @cached_property
    def color(self) -> np.ndarray:
        """Color that each sentence names, `(N,)` str; none if it names no color, or several."""
        sentences, inverse = np.unique(self.instruction, return_inverse=True)
        return np.array([_color(str(sentence)) for sentence in sentences])[inverse]

    def words(self, model: WorldModel, rows: np.ndarray) -> np.ndarray:
        """Embeds the instructions of starts `(K,)` as the world model does, `(K, 64)` float32."""
        memo = self._memo.setdefault(model, {})
        if "words" not in memo:
            sentences, inverse = np.unique(self.instruction, return_inverse=True)
            words = embedder(model)
            memo["words"] = np.stack([words(str(sentence)) for sentence in sentences])[inverse]
        return memo["words"][rows]

    def states(self, model: WorldModel, rows: np.ndarray) -> LatentState:
        """Encodes starts `(K,)` into states on the model's device."""
        return self._encoded(model, "images", rows, self.proprio)

    def goals(self, model: WorldModel, rows: np.ndarray) -> Tensor:
        """Encodes the goals of starts `(K,)` into embeddings `(K, E)` on the model's device."""
        goal, nowhere = self.goal[rows], np.zeros((len(self.goal_images), 4), np.float32)
        return model.embedding(self._encoded(model, "goal_images", goal, nowhere))

    @torch.inference_mode(False)  # dreams ask in inference mode, but learners may take gradients
    @torch.no_grad()
    def _encoded(self, model: WorldModel, name: str, rows: np.ndarray, proprio: np.ndarray) -> LatentState:
        """Gives states of pictures; each is encoded once per model, when it is first asked for."""
        images, memo = getattr(self, name), self._memo.setdefault(model, {})
        table, ready = memo.get(name, (LatentState(torch.empty(0), torch.empty(0)), np.zeros(len(images), bool)))
        missing = np.unique(rows[~ready[rows]])
        if len(missing):
            pictures = torch.from_numpy(images[missing]).to(model.device)
            setpoints = torch.from_numpy(proprio[missing]).to(model.device)
            states = model.encode(pictures, setpoints)
            if not ready.any():
                table = states.each(lambda part: part.new_empty(len(images), *part.shape[1:]))
            for whole, part in zip(table, states, strict=True):
                if whole is not None and part is not None:
                    whole[torch.from_numpy(missing).to(model.device)] = part
            ready[missing] = True
            memo[name] = (table, ready)
        return table.take(torch.from_numpy(rows).to(model.device))


_NAMES = tuple(one.name for one in fields(InitialStates) if one.init)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> InitialStates:
    """Reads a bank; `changed`, the file's time of change, makes a rewritten file a new entry."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _NAMES}
    except (KeyError, TypeError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no start bank or is truncated ({error}); accepted: an npz file of "
            f"`InitialStates.save` with {', '.join(_NAMES)}"
        ) from error
    return InitialStates(**arrays)


def _color(sentence: str) -> str:
    try:
        return color_of(sentence)
    except ValueError:
        return ""


def _middle_steps(episode: Episode, count: int, rng: np.random.Generator) -> list[int]:
    """Chooses mid-episode steps: keyframes before contact, and random ones."""
    first, last = MIDDLE_STEPS
    closing = episode.proprio[:, 3] - episode.proprio[0, 3] > 0.5
    keyframes = [int(flags.argmax()) - 1 for flags in (closing, episode.held) if flags.any()]
    steps = np.concatenate([keyframes, rng.permutation(np.arange(first, last + 1))[:count]])
    solved = np.flatnonzero(episode.condition)
    within = (steps >= first) & (steps <= last) & ~np.isin(steps, solved)
    return np.unique(steps[within]).astype(int).tolist()

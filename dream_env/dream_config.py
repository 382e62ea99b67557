"""The options of a dream, checked, and the world model and initial states that they name."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dream_env.checks import check_choice, check_number
from dream_env.initial_states import FILE, InitialStates
from dream_env.observations import ObsType
from dream_env.rewards import DEFAULT_REWARD, RewardName
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import WorldModel

Precision = Literal["float32", "bfloat16"]
RENAMED = {"bank": "initial_states"}
"""Options of before, and what they are called now."""


@dataclass(frozen=True)
class DreamConfig:
    """Keyword arguments of a dream, see `dream_env.dream.DreamEnv`.

    Raises:
        ValueError: If a value is not among the accepted ones.
    """

    task: str = "all"
    obs_type: ObsType = "embedding"
    reward: RewardName | None = None
    goal_env: bool = False
    world_model: str | Path | WorldModel = "default"
    initial_states: str | Path | InitialStates | None = None
    starts: str | float = "episode"
    disagreement_penalty: float = 0.0
    max_disagreement: float | Literal["calibrated"] | None = None
    temperature: float = 1.0
    precision: Precision = "float32"
    compile: bool = False
    device: str = "cpu"
    render_mode: str | None = None

    @classmethod
    def of(cls, options: dict[str, Any]) -> DreamConfig:
        """Makes one of an env's keyword arguments.

        Raises:
            TypeError: If there is no such argument.
        """
        accepted = [one.name for one in fields(cls)]
        for old in options.keys() & RENAMED.keys():
            warnings.warn(f"{old}= is called {RENAMED[old]}= now", DeprecationWarning, stacklevel=3)
        options = {RENAMED.get(name, name): value for name, value in options.items()}
        if unknown := sorted(options.keys() - set(accepted)):
            # As Python says it: TorchRL tries an argument of its own, and goes on where this is what it is told.
            raise TypeError(f"got an unexpected keyword argument '{unknown[0]}'; accepted: {', '.join(accepted)}")
        return cls(**options)

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        check_choice("obs_type", self.obs_type, ObsType)
        check_choice("reward", self.reward, (None, *RewardName.__args__))  # type: ignore[attr-defined]
        check_choice("goal_env", self.goal_env, (False, True))
        check_choice("precision", self.precision, Precision)
        check_choice("render_mode", self.render_mode, (None, "rgb_array"))
        if isinstance(self.starts, str):
            check_choice("starts", self.starts, ("episode", "any"))
        else:
            check_number("starts", self.starts, high=1, beside="'episode', 'any', ")
        check_number("disagreement_penalty", self.disagreement_penalty)
        check_number("temperature", self.temperature)
        if self.max_disagreement not in (None, "calibrated", np.inf):
            check_number("max_disagreement", self.max_disagreement, beside="None, 'calibrated', ")
        if not isinstance(self.world_model, str | Path) and not hasattr(self.world_model, "encode"):
            raise ValueError(
                f"world_model={self.world_model!r}; accepted: 'default', a checkpoint folder, or a world model"
            )
        if not isinstance(self.initial_states, str | Path | InitialStates | None):
            raise ValueError(f"initial_states={self.initial_states!r}; accepted: None, a file, or an `InitialStates`")
        if self.goal_env and self.disagreement_penalty:
            raise ValueError(
                "disagreement_penalty: the reward of a relabelled goal cannot hold it; accepted with goal_env=True: 0"
            )

    def computing(self, device: torch.device) -> AbstractContextManager:
        """Gives the context in which the world model's products are computed in `precision`; states stay float32.

        Args:
            device: Where the world model is: one that is given as an object may be elsewhere than `self.device`.
        """
        kind, halved = device.type, self.precision == "bfloat16"
        if not halved and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return nullcontext()  # turning off what is off takes its time
        return torch.autocast(kind, torch.bfloat16, enabled=halved)

    @property
    def middle_share(self) -> float:
        """Share of the dreams that begin with a recorded mid-episode state."""
        if isinstance(self.starts, str):
            return 0.4 if self.starts == "any" else 0.0
        return self.starts

    def open(self) -> tuple[WorldModel, InitialStates]:
        """Loads world model and initial states; an object is taken as it is.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, or the world model cannot be compiled.
        """
        model: Any = self.world_model
        initial, folder = self.initial_states, checkpoint.resolve("default")
        if isinstance(model, str | Path):
            model, folder = checkpoint.load(model, self.device), checkpoint.resolve(model)
        if initial is None:
            initial = folder / FILE
        if self.compile:
            if not hasattr(model, "compiled"):
                raise ValueError(f"compile=True: {type(model).__name__} has no method `compiled`; accepted: False")
            model = _compiled(model)
        return model, initial if isinstance(initial, InitialStates) else InitialStates.load(initial)

    def pays(self, model: WorldModel) -> RewardName:
        """Returns the reward: the one that is named, else the distance to the goal, or the environment's own."""
        return self.reward or (DEFAULT_REWARD if model.spec.goals else "environment")

    def limit(self, calibrated: float | None) -> float | None:
        """Returns the disagreement at which an episode is truncated, None for never; the world model may have its own.

        Raises:
            ValueError: If the world model's own is asked for, and there is none.
        """
        if self.max_disagreement != "calibrated":
            return self.max_disagreement
        if calibrated is None:
            raise ValueError(
                "max_disagreement='calibrated': the world model has no disagreement_threshold; accepted: a number, or "
                "a world model that `python -m agents.fit` made"
            )
        return calibrated


@lru_cache(maxsize=8)
def _compiled(model: Any) -> Any:
    """Compiles a model once, for all environments that share it."""
    return model.compiled()

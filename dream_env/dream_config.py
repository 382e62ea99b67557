"""Checks the options of a dream environment and loads the world model and initial states that they name."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dream_env.checks import check_choice, check_count, check_number
from dream_env.initial_states import FILE, InitialStates
from dream_env.observations import ObsType
from dream_env.rewards import DEFAULT_REWARD, RewardName
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import WorldModel

Precision = Literal["float32", "bfloat16"]
RENAMED = {"bank": "initial_states"}
"""Maps old to new names of options."""


@dataclass(frozen=True)
class DreamConfig:
    """Keyword arguments of a dream environment; `dream_env.dream.DreamEnv` describes them.

    Raises:
        ValueError: If a value is not among the accepted ones.
    """

    task: str = "all"
    obs_type: ObsType = "embedding"
    reward: RewardName | None = None
    goal_env: bool = False
    horizon: int | None = None
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
        """Creates a config from an environment's keyword arguments.

        Raises:
            TypeError: If an argument is unknown.
        """
        accepted = [field.name for field in fields(cls)]
        for old in options.keys() & RENAMED.keys():
            warnings.warn(f"{old}= is called {RENAMED[old]}= now", DeprecationWarning, stacklevel=3)
        options = {RENAMED.get(name, name): value for name, value in options.items()}
        if unknown := sorted(options.keys() - set(accepted)):
            # Worded as Python does: TorchRL tries an extra argument, and retries without it on this message.
            raise TypeError(f"got an unexpected keyword argument '{unknown[0]}'; accepted: {', '.join(accepted)}")
        return cls(**options)

    def __post_init__(self) -> None:
        """Checks everything that can be checked without reading files."""
        check_choice("obs_type", self.obs_type, ObsType)
        check_choice("reward", self.reward, (None, *RewardName.__args__))  # type: ignore[attr-defined]
        check_choice("goal_env", self.goal_env, (False, True))
        check_choice("precision", self.precision, Precision)
        check_choice("render_mode", self.render_mode, (None, "rgb_array"))
        if isinstance(self.starts, str):
            check_choice("starts", self.starts, ("episode", "any"))
        else:
            check_number("starts", self.starts, high=1, beside="'episode', 'any', ")
        if self.horizon is not None:
            check_count("horizon", self.horizon, beside="None, ")
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
                f"disagreement_penalty={self.disagreement_penalty}: compute_reward cannot include it; accepted with "
                "goal_env=True: 0"
            )

    def computing(self, device: torch.device) -> AbstractContextManager:
        """Returns a context in which the world model's matrix products use `precision`; states stay float32.

        Args:
            device: Device of the world model. It may differ from `self.device` for a model given as an object.
        """
        kind, halved = device.type, self.precision == "bfloat16"
        if not halved and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return nullcontext()  # entering autocast only to disable it would cost time in every step
        return torch.autocast(kind, torch.bfloat16, enabled=halved)

    @property
    def middle_share(self) -> float:
        """Share of episodes that start from a recorded mid-episode state."""
        if isinstance(self.starts, str):
            return 0.4 if self.starts == "any" else 0.0
        return self.starts

    def open(self) -> tuple[WorldModel, InitialStates]:
        """Loads the world model and the initial states; objects are used as they are.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, the initial states belong to another world, or the world model cannot be
                compiled.
        """
        model: Any = self.world_model
        initial, folder = self.initial_states, checkpoint.resolve("default")
        if isinstance(model, str | Path):
            model, folder = checkpoint.load(model, self.device), checkpoint.resolve(model)
        elif initial is None and model.spec.name != WorldSpec.load(folder / checkpoint.SPEC).name:
            raise ValueError(
                f"initial_states=None: a world model of {model.spec.name} that is given as an object has no folder to "
                "take them from; accepted: a file, or an `InitialStates`"
            )
        states = initial if isinstance(initial, InitialStates) else InitialStates.load(initial or folder / FILE)
        states.check_world(model.spec)
        if self.compile:
            if not hasattr(model, "compiled"):
                raise ValueError(f"compile=True: {type(model).__name__} has no method `compiled`; accepted: False")
            model = _compiled(model)
        return model, states

    def pays(self, model: WorldModel) -> RewardName:
        """Returns the name of the reward: `reward` if set, else "energy" with goals, "environment" without."""
        return self.reward or (DEFAULT_REWARD if model.spec.goals else "environment")

    def limit(self, calibrated: float | None) -> float | None:
        """Returns the disagreement above which an episode is truncated; None for never.

        Args:
            calibrated: Threshold stored in the world model, or None.

        Raises:
            ValueError: If `max_disagreement` is "calibrated" and the world model has no threshold.
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
    """Compiles a model once for all environments that share it."""
    return model.compiled()

"""What a dream is made of: the arguments of `NicoLDream-v0`, checked, and the world model and starts that they name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dream_env import checks, rewards
from dream_env.contract import ObsType
from dream_env.initial_states import InitialStates
from dream_env.nicol.constants import ControlName
from dream_env.rewards import RewardName
from dream_env.world_models import checkpoint
from dream_env.world_models.legacy import WorldModel

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class DreamConfig:
    """Keyword arguments of both environments, see `dream_env.dream.NicoLDreamEnv`.

    Raises:
        ValueError: If a value is not among the accepted ones.
    """

    task: str = "reach"
    obs_type: ObsType = "embedding"
    reward: RewardName = rewards.DEFAULT_REWARD
    goal_env: bool = False
    world_model: str | Path | WorldModel = "default"
    bank: str | Path | InitialStates | None = None
    starts: str | float = "episode"
    control: ControlName = "delta"
    disagreement_penalty: float = 0.0
    max_disagreement: float | Literal["calibrated"] | None = None
    temperature: float = 1.0
    precision: Precision = "float32"
    compile: bool = False
    device: str = "cpu"
    render_mode: str | None = None

    @classmethod
    def of(cls, task: str, options: dict[str, Any]) -> DreamConfig:
        """Makes one of an env's keyword arguments.

        Raises:
            TypeError: If there is no such argument.
        """
        accepted = [one.name for one in fields(cls)]
        if unknown := options.keys() - set(accepted):
            raise TypeError(
                f"NicoLDream-v0 has no option {', '.join(sorted(unknown))}; accepted: {', '.join(accepted)}"
            )
        return cls(task, **options)

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        checks.check_choice("obs_type", self.obs_type, ObsType)
        checks.check_choice("reward", self.reward, RewardName)
        checks.check_choice("control", self.control, ControlName)
        checks.check_choice("precision", self.precision, Precision)
        checks.check_choice("render_mode", self.render_mode, (None, "rgb_array"))
        if isinstance(self.starts, str):
            checks.check_choice("starts", self.starts, ("episode", "any"))
        else:
            checks.check_number("starts", self.starts, high=1, beside="'episode', 'any', ")
        checks.check_number("disagreement_penalty", self.disagreement_penalty)
        checks.check_number("temperature", self.temperature)
        if self.max_disagreement not in (None, "calibrated", np.inf):
            checks.check_number("max_disagreement", self.max_disagreement, beside="None, 'calibrated', ")
        if self.world_model is None:
            raise ValueError("world_model=None; accepted in a dream: 'default', a checkpoint folder, or a world model")
        if self.goal_env and self.disagreement_penalty:
            raise ValueError(
                "disagreement_penalty: the reward of a relabelled goal cannot hold it; accepted with goal_env=True: 0"
            )

    def computing(self, device: torch.device) -> AbstractContextManager:
        """Gives the context in which the predictor's products are computed in `precision`; states stay float32.

        Args:
            device: Where the world model is: one that is given as an object may be elsewhere than `self.device`.
        """
        kind, halved = device.type, self.precision == "bfloat16"
        if not halved and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return nullcontext()  # turning off what is off takes its time
        return torch.autocast(kind, torch.bfloat16, enabled=halved)

    @property
    def middle_share(self) -> float:
        """Share of the starts that are recorded mid-episode states."""
        if isinstance(self.starts, str):
            return 0.4 if self.starts == "any" else 0.0
        return self.starts

    def open(self) -> tuple[WorldModel, InitialStates]:
        """Loads world model and starts; an object is taken as it is.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, or the world model cannot be compiled.
        """
        model: Any = self.world_model
        bank, folder = self.bank, checkpoint.resolve("default")
        if isinstance(model, str | Path):
            model, folder = checkpoint.load(model, self.device), checkpoint.resolve(model)
        if bank is None:
            bank = folder / "bank.npz"
        if self.compile:
            if not hasattr(model, "compiled"):
                raise ValueError(f"compile=True: {type(model).__name__} has no method `compiled`; accepted: False")
            model = _compiled(model)
        return model, bank if isinstance(bank, InitialStates) else InitialStates.load(bank)

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

"""Foresight: a policy proposes several behaviors, each is imagined, and the best one is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners import states
from dream_env.agents.planners.objectives import Objective, usual
from dream_env.agents.planners.planner import PlannerConfig, write
from dream_env.agents.planners.prior import Prior, load_policy, varied
from dream_env.agents.planners.problem import ActionBox, Noise, check_counts, check_horizon
from dream_env.checks import check_choice, check_number
from dream_env.observations import ObsType
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State, WorldModel

Pick = Literal["best", "random", "worst"]


@dataclass(frozen=True)
class ForesightConfig:
    """Config of a foresight.

    Attributes:
        policy: Name or path of the policy that proposes behaviors.
        world_model: Name or folder of the world model.
        candidates: Number K of behaviors to compare; the first is the policy without changes. For a policy whose action
            head has modes, the candidates are the chunks that it proposes, after which the policy acts without changes.
        objective: Weight of each term of the cost, see `dream_env.agents.planners.objectives.TERMS`.
        path: Weight of the mean cost along the path, see `Objective`.
        horizon: Steps to imagine.
        execute: Steps for which the chosen behavior is kept.
        std: Standard deviation of the noise that is added to the actions of a policy without modes, as a share of half
            the action box.
        beta: Exponent of the spectrum of that noise along the horizon, see `Noise.colored`.
        draws: Noise samples with which every candidate is imagined, the same for all; 0 imagines the most likely
            future.
        temperature: Strength of the world model's noise, as in `WorldModel.step`.
        margin: Another behavior is chosen only if its cost is lower than that of the policy by more than this.
        sure: And only if its mean lead over the noise samples is larger than this number of standard errors of the
            mean: a one-sided paired t-test, because a smaller lead may be due to chance. 0 requires nothing.
        pick: Which candidate to choose: "best", or as controls "random" and "worst".
        seed: Seed of all random numbers; row i uses seed + i.
    """

    policy: str = "unlabelled"
    world_model: str = "default"
    candidates: int = 16
    objective: Mapping[str, float] = field(default_factory=lambda: {"energy": 1.0})
    path: float = 0.25
    horizon: int = 8
    execute: int = 4
    std: float = 0.3
    beta: float = 2.0
    draws: int = 4
    temperature: float = 1.0
    margin: float = 0.0
    sure: float = 0.0
    pick: Pick = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values that can be checked without the world model."""
        check_counts(candidates=self.candidates, horizon=self.horizon, execute=self.execute)
        check_choice("pick", self.pick, Pick)
        check_number("margin", self.margin)
        check_number("sure", self.sure)
        if self.sure and self.draws < 2:
            raise ValueError(
                f"sure={self.sure} with draws={self.draws}; accepted: 2 draws or more, to estimate the standard error"
            )
        if self.execute > self.horizon:
            raise ValueError(f"execute={self.execute}; accepted: 1 to horizon={self.horizon}")
        Objective(self.objective, self.path)


class Foresight:
    """A policy with lookahead; implements `dream_env.agents.policies.protocol.Policy`.

    A candidate is noise that is added to the policy's actions in the next steps, so the policy still reacts to
    observations, or a chunk of actions that replaces them. The first candidate changes nothing.

    Args:
        config: Config of the foresight.
        model: World model; None loads the one in the config.
        policy: The policy; None loads the one in the config.

    Raises:
        ValueError: If the policy, the objective or the horizon does not fit the world model.
    """

    kind = "foresight"
    config_class = ForesightConfig

    def __init__(self, config: ForesightConfig, model: WorldModel | None = None, policy: Any = None) -> None:
        self.config = config
        self.model = checkpoint.load(config.world_model) if model is None else model
        spec = self.model.spec
        check_horizon(config.horizon, spec)
        self.policy = load_policy(config.policy, config.world_model) if policy is None else policy
        self.prior = Prior(self.policy, config.std, config.beta)
        if self.prior.obs_type == "native" and getattr(self.model, "state_spaces", None):
            raise ValueError(
                f"policy={config.policy!r} reads the observations of {spec.name} itself, which do not contain the "
                "memory of the world model; accepted: a policy of `agents.train --obs-type embedding`"
            )
        self.objective = Objective(config.objective, config.path)
        self.objective.check(self.model)
        if self.prior.obs_type == "native" and "goal" in self.objective.needs:
            raise ValueError(
                f"objective={dict(config.objective)} needs the goal, which policy={config.policy!r} is not shown, as "
                "it reads native observations; accepted: another objective, such as 'reward', or a policy of "
                "`agents.train --obs-type embedding`"
            )
        self.box = ActionBox(spec.action, self.model.device)
        self.reset()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        return tuple(dict.fromkeys((*states.inputs(self.model), *self.policy.inputs)))

    @property
    def obs_type(self) -> ObsType:
        """Type of the observations that it reads, see `dream_env.observations.ObservationBuilder`."""
        return "native" if self.prior.obs_type == "native" else states.obs_type_for(self.model, self.inputs)

    def reset(self) -> None:
        """Resets the policy, the chosen behavior and the random numbers."""
        self.policy.reset()
        self._noise: Noise | None = None
        self._chosen: list[tuple[Tensor, Tensor | None]] = []
        self.chosen: list[np.ndarray] = []

    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`."""
        if not self._chosen:
            if hasattr(self.policy, "propose"):
                self.policy.reset()  # starts a new chunk here, as it does in imagination
            seen = states.seen(self.model, observation)
            self._chosen = self._choose(
                states.state_of(self.model, seen), states.goal_of(self.model, seen), observation
            )
        added, instead = self._chosen.pop(0)
        own = self.policy.act(observation, deterministic)
        return self.box.actions(varied(own, added, self.box, instead)).cpu().numpy()

    def _choose(
        self, state: State, goal: State | None, observation: Mapping[str, np.ndarray]
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Returns, for each of the next steps, the arguments `added` and `instead` of `varied`, `(B, A)` each."""
        config, count = self.config, len(next(iter(state.values())))
        if self._noise is None or len(self._noise.generators) != count:
            self._noise = Noise([config.seed + i for i in range(count)], self.model.device)
        noise = self._noise
        variations = self.prior.variations(noise, self.box, config.candidates, config.horizon)
        chunks = self.prior.chunks(observation, noise, self.box, config.candidates, config.horizon)
        if chunks is not None:
            variations = torch.zeros_like(variations)
        rows = torch.arange(count, device=variations.device)
        if config.pick == "random":
            best = (noise.uniform() * config.candidates).long()
        else:
            chance = noise.uniform(config.draws, config.horizon, self.model.noise_dim) if config.draws else None
            each = self.costs(state, goal, variations, chance, chunks)
            costs = each.mean(2)
            best = costs.argmax(1) if config.pick == "worst" else costs.argmin(1)
            if config.pick == "best":
                best = torch.where(leads(each[:, 0] - each[rows, best], config.margin, config.sure), best, 0)
        self.chosen.append(best.cpu().numpy())
        added = variations[rows, best, : config.execute].unbind(1)
        instead = [None] * len(added) if chunks is None else chunks[rows, best, : config.execute].unbind(1)
        return list(zip(added, instead, strict=True))

    def costs(
        self, state: State, goal: State | None, variations: Tensor, chance: Tensor | None, chunks: Tensor | None = None
    ) -> Tensor:
        """Returns the costs `(B, K, D)` of K variations of the policy under each of D noise samples.

        Args:
            state: B states.
            goal: Their goals; None without goals.
            variations: See `Prior.imagine`, `(B, K, H, A)`.
            chance: See `Prior.imagine`, `(B, D, H, noise_dim)`.
            chunks: See `Prior.imagine`.

        Raises:
            ValueError: If a cost is NaN or infinite.
        """
        temperature = self.config.temperature
        imagined = self.prior.imagine(self.model, self.box, state, goal, variations, chance, temperature, chunks)
        costs = self.objective(imagined).view(*variations.shape[:2], -1)
        if not torch.isfinite(costs).all():
            raise ValueError("costs of candidates are NaN or infinite; accepted: finite costs")
        return costs

    def save(self, path: str | Path) -> None:
        """Writes the config as a JSON file, which `python -m agents.evaluate --policy` accepts."""
        write(path, self.kind, self.config)


def looking(policy: str, world_model: str, candidates: int = 0) -> Any:
    """Loads a policy, and adds foresight to it if `candidates` is not 0.

    Args:
        policy: See `dream_env.agents.policies.registry.load`; may be the file of a planner or a foresight.
        world_model: Name or folder of the world model that it is used with.
        candidates: Number of behaviors to compare with the default objective; 0 for the policy without foresight.

    Raises:
        ValueError: If the policy was trained with another encoder, or plans with another world model.
    """
    loaded = load_policy(policy, world_model)
    config = getattr(loaded, "config", None)  # a .zip of stable-baselines3 has none
    own = config.world_model if isinstance(config, ForesightConfig | PlannerConfig) else world_model
    if checkpoint.resolve(own) != checkpoint.resolve(world_model):
        raise ValueError(f"policy={policy!r} imagines with world_model={own!r}; accepted: {world_model!r}")
    if not candidates:
        return loaded
    model = checkpoint.load(world_model)
    return Foresight(ForesightConfig(policy, world_model, candidates, usual(model)), model, loaded)


def leads(lead: Tensor, margin: float = 0.0, sure: float = 0.0) -> Tensor:
    """Returns where a lead is large enough, `(B,)` bool.

    Args:
        lead: Cost of the policy minus cost of the candidate under each noise sample, `(B, D)`.
        margin: The mean lead has to be larger than this.
        sure: The mean lead has to be larger than this number of its standard errors; 0 skips the test.
    """
    enough = lead.mean(1) > margin
    if sure:
        error = lead.std(1) / lead.shape[1] ** 0.5
        enough &= lead.mean(1) > sure * error
    return enough

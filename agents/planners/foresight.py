"""Foresight: a policy proposes several behaviors, each is imagined, and the best is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners import states
from dream_env.agents.planners.objectives import Objective, usual
from dream_env.agents.planners.planner import PlannerConfig
from dream_env.agents.planners.prior import Prior, load_policy, varied
from dream_env.agents.planners.problem import ActionBox, Noise, check_counts
from dream_env.checks import check_choice, check_number
from dream_env.files import write_json
from dream_env.observations import ObsType
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State, WorldModel

Pick = Literal["best", "random", "worst"]


@dataclass(frozen=True)
class ForesightConfig:
    """Everything that a foresight is made of.

    Attributes:
        policy: The policy that proposes.
        world_model: Name or folder.
        candidates: Behaviors K that are compared; the first is what the policy does by itself. Those of a policy whose
            head has modes are the chunks that it proposes, after which it goes on by itself.
        objective: Weight of each term of their cost, see `dream_env.agents.planners.objectives.TERMS`.
        path: How much the path counts beside its end.
        horizon: Steps that are imagined.
        execute: Steps for which the chosen behavior is kept.
        std: Standard deviation of what is added to the actions of other policies, as a share of half the action box.
        beta: Color of that noise along the horizon, see `Noise.colored`.
        draws: Draws of noise that every candidate is imagined with, the same for all; 0 imagines what is likeliest.
        temperature: How far noise leads from the likeliest.
        margin: Another behavior is chosen only if its cost is lower than the policy's own by so much.
        sure: And only if, over the draws of noise, its mean lead is larger than so many standard errors of that mean: a
            one-sided paired t-test. What leads by less may lead by chance. 0 asks for nothing.
        pick: "best"; or the controls "random" and "worst".
        seed: Of all random numbers; row i takes seed + i.
    """

    policy: str = "few"
    world_model: str = "default"
    candidates: int = 16
    objective: Mapping[str, float] = field(default_factory=lambda: {"metric": 1.0, "disagreement": 200.0})
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
        """Checks what does not need the world model."""
        check_counts(candidates=self.candidates, horizon=self.horizon, execute=self.execute)
        check_choice("pick", self.pick, Pick)
        check_number("margin", self.margin)
        check_number("sure", self.sure)
        if self.sure and self.draws < 2:
            raise ValueError(
                f"sure={self.sure} with draws={self.draws}; accepted: 2 draws or more, whose spread it asks"
            )
        if self.execute > self.horizon:
            raise ValueError(f"execute={self.execute}; accepted: 1 to horizon={self.horizon}")
        Objective(self.objective, self.path)


class Foresight:
    """A policy that looks ahead; meets `dream_env.agents.policies.protocol.Policy`.

    What is chosen is what to add to the policy's actions in the next steps, so the policy stays in the loop, or what to
    do in their place; with neither it is the policy itself.

    Args:
        config: What it is made of.
        model: World model; None loads the config's.
        policy: The policy; None loads the config's.

    Raises:
        ValueError: If the parts do not go together.
    """

    kind = "foresight"
    config_class = ForesightConfig

    def __init__(self, config: ForesightConfig, model: WorldModel | None = None, policy: Any = None) -> None:
        self.config = config
        self.model = checkpoint.load(config.world_model) if model is None else model
        spec = self.model.spec
        if spec.horizon is not None and config.horizon > spec.horizon:
            raise ValueError(
                f"horizon={config.horizon}; accepted: up to {spec.horizon}, the length of an episode of {spec.name}"
            )
        self.policy = load_policy(config.policy, config.world_model) if policy is None else policy
        self.prior = Prior(self.policy, config.std, config.beta)
        if self.prior.obs_type == "native" and getattr(self.model, "state_spaces", None):
            raise ValueError(
                f"policy={config.policy!r} sees what {spec.name} itself shows, and the world model has a memory, which "
                "that does not tell; accepted: a policy of `agents.train --obs-type embedding`"
            )
        self.objective = Objective(config.objective, config.path)
        self.objective.check(self.model)
        self.box = ActionBox(spec.action, self.model.device)
        self.reset()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it looks at."""
        return tuple(dict.fromkeys((*states.inputs(self.model), *self.policy.inputs)))

    @property
    def obs_type(self) -> ObsType:
        """Form of the observations that it looks at, see `dream_env.observations.ObservationForm`."""
        return "native" if self.prior.obs_type == "native" else states.form(self.model, self.inputs)

    def reset(self) -> None:
        """Forgets the episodes so far; random numbers begin anew."""
        self.policy.reset()
        self._noise: Noise | None = None
        self._chosen: list[tuple[Tensor, Tensor | None]] = []
        self.chosen: list[np.ndarray] = []

    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Chooses actions `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`; it draws nothing else."""
        if not self._chosen:
            if hasattr(self.policy, "propose"):
                self.policy.reset()  # begins a chunk here, as it does in imagination
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
        """Returns what to add to the next actions `(B, A)`, and what to do in their place, see `varied`."""
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
        """Returns the costs `(B, K, D)` of the policy with variations `(B, K, H, A)` under each of D draws.

        `chunks` as in `Prior.imagine`.

        Raises:
            ValueError: If a cost is not a number.
        """
        temperature = self.config.temperature
        imagined = self.prior.imagine(self.model, self.box, state, goal, variations, chance, temperature, chunks)
        costs = self.objective(imagined).view(*variations.shape[:2], -1)
        if not torch.isfinite(costs).all():
            raise ValueError("costs of candidates are NaN or infinite; accepted: finite costs")
        return costs

    def save(self, path: str | Path) -> None:
        """Writes the config as a JSON file, which `python -m agents.evaluate --policy` takes."""
        write_json(Path(path), {"kind": self.kind, **asdict(self.config)})


def looking(policy: str, world_model: str, candidates: int = 0) -> Any:
    """Reads a policy that is to act with a world model, and lets it look ahead.

    Args:
        policy: See `dream_env.agents.policies.registry.load`; also the file of a planner or a foresight.
        world_model: Name or folder.
        candidates: Behaviors among which it chooses, with the usual objective; 0 for the policy as it is.

    Raises:
        ValueError: If it sees through, or plans with, another world model.
    """
    loaded = load_policy(policy, world_model)
    plans = isinstance(loaded.config, ForesightConfig | PlannerConfig)
    own = loaded.config.world_model if plans else world_model
    if checkpoint.resolve(own) != checkpoint.resolve(world_model):
        raise ValueError(f"policy={policy!r} imagines with world_model={own!r}; accepted: {world_model!r}")
    if not candidates:
        return loaded
    model = checkpoint.load(world_model)
    return Foresight(ForesightConfig(policy, world_model, candidates, usual(model)), model, loaded)


def leads(lead: Tensor, margin: float = 0.0, sure: float = 0.0) -> Tensor:
    """Tells where a lead is large enough, `(B,)` bool.

    Args:
        lead: By how much the policy's own cost is higher under each draw of noise, `(B, D)`.
        margin: Least mean.
        sure: Least number of standard errors of the mean.
    """
    enough = lead.mean(1) > margin
    if sure:
        error = lead.std(1) / lead.shape[1] ** 0.5
        enough &= lead.mean(1) > sure * error
    return enough

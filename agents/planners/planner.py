"""Planner as a policy: a world model, a solver, an objective and optionally a prior, saved as a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.planners import states
from dream_env.agents.planners.cem import CEM, ICEM
from dream_env.agents.planners.gradient import GradientDescent
from dream_env.agents.planners.mppi import MPPI
from dream_env.agents.planners.objectives import Objective
from dream_env.agents.planners.prior import Prior, load_policy
from dream_env.agents.planners.problem import ActionBox, Noise, Problem, Solver, check_counts, check_horizon
from dream_env.agents.planners.rollout import Imagination
from dream_env.agents.planners.shooting import RandomShooting
from dream_env.checks import check_choice
from dream_env.files import write_json
from dream_env.observations import ObsType
from dream_env.paths import located, recorded
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State, WorldModel

SOLVERS: dict[str, Any] = {
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": GradientDescent,
    "random": RandomShooting,
}
"""Solvers by name."""


@dataclass(frozen=True)
class PlannerConfig:
    """Config of a planner.

    Attributes:
        world_model: Name or folder of the world model.
        solver: A name of `SOLVERS`.
        options: Attributes of the solver by name; others keep their defaults.
        objective: Weight of each term of the cost, see `dream_env.agents.planners.objectives.TERMS`.
        path: Weight of the mean cost along the path, see `Objective`.
        horizon: Length of a plan, in steps.
        execute: Steps of a plan to execute before planning again.
        prior: Policy that proposes plans; None for no prior.
        share: Share of the samples that the prior proposes.
        anchor: Weight of the mean squared difference to the prior's actions, in units of half the action box. A search
            without it exploits errors of the world model; it keeps plans close to the prior.
        prior_std: Noise on the prior's proposals, as a share of half the action box.
        draws: Noise samples with which a candidate is imagined; 0 imagines the most likely future.
        temperature: Strength of the world model's noise, as in `WorldModel.step`.
        seed: Seed of all random numbers; row i uses seed + i.
    """

    world_model: str = "default"
    solver: str = "icem"
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, float] = field(default_factory=lambda: {"energy": 1.0})
    path: float = 0.25
    horizon: int = 8
    execute: int = 3
    prior: str | None = None
    share: float = 0.25
    anchor: float = 0.0
    prior_std: float = 0.3
    draws: int = 0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values that can be checked without the world model."""
        check_choice("solver", self.solver, SOLVERS)
        check_counts(horizon=self.horizon, execute=self.execute)
        if self.execute > self.horizon:
            raise ValueError(f"execute={self.execute}; accepted: 1 to horizon={self.horizon}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}: an empty prior; accepted: above 0 and up to 1, or prior=None")
        self.make_solver()
        Objective(self.objective, self.path)

    def make_solver(self) -> Solver:
        """Builds the solver.

        Raises:
            ValueError: If it does not accept an option.
        """
        kind, known = SOLVERS[self.solver], [one.name for one in fields(SOLVERS[self.solver])]
        if unknown := sorted(set(self.options) - set(known)):
            raise ValueError(f"solver={self.solver!r} takes no {unknown[0]!r}; accepted: {', '.join(known)}")
        return kind(**self.options)


class Planner:
    """Plans every few steps, executes the first actions, and starts the next search from the rest of the plan.

    Implements `dream_env.agents.policies.protocol.Policy`. It plans from the observations of policies, see
    `dream_env.agents.planners.states`.

    Args:
        config: Config of the planner.
        model: World model; None loads the one in the config.
        policy: Policy of the prior; None loads the one in the config.
        value: Expected future return of states, see `Objective`.

    Raises:
        ValueError: If the objective, the prior or the horizon does not fit the world model.
    """

    kind = "planner"
    config_class = PlannerConfig

    def __init__(
        self, config: PlannerConfig, model: WorldModel | None = None, policy: Any = None, value: Any = None
    ) -> None:
        self.config = config
        self.model = checkpoint.load(config.world_model) if model is None else model
        spec = self.model.spec
        check_horizon(config.horizon, spec)
        self.box = ActionBox(spec.action, self.model.device)
        self.solver = config.make_solver()
        self.objective = Objective(config.objective, config.path, value)
        self.objective.check(self.model)
        if policy is None and config.prior is not None:
            policy = load_policy(config.prior, config.world_model)
        self.prior = None if policy is None else Prior(policy, config.prior_std)
        self.reset()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        own = () if self.prior is None else self.prior.policy.inputs
        return tuple(dict.fromkeys((*states.inputs(self.model), *own)))

    @property
    def obs_type(self) -> ObsType:
        """Type of the observations that it reads, see `dream_env.observations.ObservationBuilder`."""
        return states.obs_type_for(self.model, self.inputs)

    def reset(self) -> None:
        """Discards the current plans and resets the random numbers."""
        self._noise: Noise | None = None
        self._left: list[torch.Tensor] = []
        self._elites: torch.Tensor | None = None
        self._expected: State | None = None
        self.cost: torch.Tensor | None = None

    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`; ignores `deterministic`.

        Raises:
            ValueError: If a part of the observation is missing, or imagined costs are not finite.
        """
        seen = states.seen(self.model, observation)
        # Observations with an embedding already contain the memory.
        memory = getattr(self.model, "has_memory", False) and "embedding" not in seen
        if not self._left or memory:
            state = states.state_of(self.model, seen, self._expected)
        if not self._left:
            plan = self._plan(state, states.goal_of(self.model, seen))
            self._left = list(self.box.clip(plan[:, : self.config.execute]).unbind(1))
        action = self.box.actions(self._left.pop(0))
        if memory:
            self._expected, _ = self.model.step(state, action)
        return action.cpu().numpy()

    def _plan(self, state: State, goal: State | None) -> torch.Tensor:
        """Returns the actions `(B, H, A)` of a plan, as candidates."""
        config, count = self.config, len(next(iter(state.values())))
        if self._noise is None or len(self._noise.generators) != count:
            self.reset()
            self._noise = Noise([config.seed + i for i in range(count)], self.model.device)
        noise, horizon = self._noise, config.horizon
        chance = noise.uniform(config.draws, horizon, self.model.noise_dim) if config.draws else None
        mean = self.box.center.expand(count, horizon, -1).clone()
        proposals = [] if self._elites is None else [self._shifted(self._elites)]
        if self.prior is not None:
            several = round(config.share * self.solver.samples)  # type: ignore[attr-defined]
            variations = self.prior.variations(noise, self.box, several, horizon)
            imagined = self.prior.imagine(self.model, self.box, state, goal, variations)
            proposed = torch.stack(imagined.actions, 1).unflatten(0, (count, several))
            mean = proposed[:, 0]
            proposals.append(proposed[:, 1:])
        elif proposals:
            mean = proposals[0][:, 0]
            proposals = [proposals[0][:, 1:]]
        kept = needed(self.model, self.objective, state)
        if goal is not None:
            goal = {name: part for name, part in goal.items() if name in ("embedding", *kept)}
        cost = Imagination(
            self.model,
            self.box,
            kept,
            self.objective,
            goal,
            chance,
            config.temperature,
        )
        given = torch.cat(proposals, 1) if proposals else None
        problem = Problem(cost, self.box, mean, noise, given)
        if self.prior is not None and config.anchor:
            problem.cost = lambda c: (
                cost(c) + config.anchor * ((c - mean[:, None]) / self.box.half).square().mean((2, 3))
            )
        plan = self.solver.solve(problem)
        self._elites, self.cost = plan.elites, plan.cost
        return plan.actions

    def _shifted(self, plans: torch.Tensor) -> torch.Tensor:
        """Shifts plans `(B, K, H, A)` by the executed steps, repeating their last action."""
        done = self.config.execute
        return torch.cat([plans[:, :, done:], plans[:, :, -1:].expand(-1, -1, done, -1)], 2)

    def save(self, path: str | Path) -> None:
        """Writes the config as a JSON file, which `python -m agents.evaluate --policy` accepts."""
        write(path, self.kind, self.config)


def needed(model: WorldModel, objective: Objective, state: State) -> State:
    """Returns the entries of a state that the objective requires: imagining fewer entries is faster."""
    needs = objective.needs
    if "metric" in objective.weights and set(objective.weights) <= {"metric", "disagreement"} and not objective.value:
        names = getattr(model, "metric_state", tuple(state))
    else:
        sentence = "success" in needs or getattr(model, "sentence_in_embedding", False)
        names = tuple(name for name in state if name != "instruction" or sentence)
    return {name: state[name] for name in names}


def write(path: str | Path, kind: str, config: Any) -> None:
    """Writes the kind and the config of a planner or a foresight as a JSON file, whose paths are relative to it."""
    values = asdict(config)
    for name, known in _paths().items():
        if values.get(name):
            named = checkpoint.lasting(values[name]) if name == "world_model" else values[name]
            values[name] = recorded(named, Path(path).parent, known)
    write_json(Path(path), {"kind": kind, **values})


def _paths() -> dict[str, tuple[str, ...]]:
    """Returns the names of the values that are paths, and for each the names that it accepts instead of a path."""
    from dream_env.agents.policies import registry  # imported late because it loads planners

    policies = (*registry.SHIPPED, *registry.ALIASES)
    return {"world_model": tuple(checkpoint.SHIPPED), "policy": policies, "prior": policies}


def read(path: str | Path, classes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Reads the kind and the values of a config from a JSON file.

    Args:
        path: The file.
        classes: Config dataclass of each accepted kind.

    Raises:
        FileNotFoundError: If there is no such file, or its world model does not exist.
        ValueError: If the file is damaged, or of another kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"policy={str(path)!r} is not there; accepted: a JSON file of kind {', '.join(classes)}"
        )
    try:
        values = dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"policy={str(path)!r} is no JSON object: {error}") from error
    kind = values.pop("kind", None)
    if kind not in classes:
        raise ValueError(f"policy={str(path)!r} has kind {kind!r}; accepted: {', '.join(classes)}")
    known = [one.name for one in fields(classes[kind])]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"policy={str(path)!r} has {unknown[0]!r}; accepted: {', '.join(known)}")
    for name, names in _paths().items():
        if isinstance(values.get(name), str):
            values[name] = located(values[name], Path(path).parent, names)
    if isinstance(named := values.get("world_model"), str) and not checkpoint.resolve(named).exists():
        raise FileNotFoundError(f"world_model={named!r}, named by the policy {str(path)!r}, does not exist")
    return kind, values

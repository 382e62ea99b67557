"""The arms (variants of acting) that `agents.studies.uses` compares, by their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dream_env.agents.planners.foresight import ForesightConfig
from dream_env.agents.planners.planner import PlannerConfig
from dream_env.agents.studies.uses.amplify import CONTROLS

METRIC = {"metric": 1.0}
AHEAD = ForesightConfig("bc5", "state_grounded", objective={"metric": 1.0, "disagreement": 200.0})
"""Foresight with the learned distance of the state-grounded model, for the clone of five demonstrations."""
CLOSED = PlannerConfig(world_model="state_grounded", objective=METRIC, path=1.0, execute=1, horizon=8)
"""Replans at every step. Chosen on seeds from 200,000 on."""
NEAR = PlannerConfig(
    world_model="state_grounded",
    objective=AHEAD.objective,
    options={"samples": 48, "iterations": 2, "std": 0.25},
    execute=2,
    prior="few",
    anchor=2.0,
    draws=4,
)
"""Plans near a prior. The best of three variants on seeds from 200,000 on; a free search was worse than the prior."""
SURE = replace(AHEAD, draws=8, sure=4.0, margin=3.0)
"""Deviates from the policy only for a significant lead of at least three steps to the goal by the learned distance.
Chosen on seeds from 210,000 on: without the margin, even leads of twelve standard errors were errors of the dream."""
SMALL = replace(CLOSED, execute=3, horizon=6, options={"samples": 24, "iterations": 3, "elites": 5, "kept": 2})
"""A budget that is feasible with physics as the model."""
UNLABELLED = PlannerConfig(
    world_model="unlabelled", path=1.0, execute=1, horizon=5, options={"samples": 64, "iterations": 3}
)
"""Plans by the energy of the model fitted without labels. Chosen on seeds from 200,000 on, where a horizon of 5 did as
well as 8."""
LIGHT = {"samples": 64, "iterations": 3}
"""Half the usual budget, for objectives that need imagined pictures."""


@dataclass(frozen=True)
class Arm:
    """One variant of acting.

    Attributes:
        use: "clone", "plan", "bound" (planning with physics as the model), "foresight", "amplify", "practice", or
            "practice, foresight" (foresight with the practiced policy).
        demos: Demonstrations per task that its policy was cloned from; 0 without a policy.
        config: Config of the planner or foresight; None for a policy without planning.
        policy: Name of the policy; for "amplify", one of `amplify.CONTROLS`. Empty for policies that the study clones,
            and for "practice" also practices.
        seed: Training seed of cloning and practice.
    """

    use: str
    demos: int
    config: PlannerConfig | ForesightConfig | None = None
    policy: str = ""
    seed: int = 0


USES: dict[str, PlannerConfig | ForesightConfig | None] = {
    "clone": None,
    "plan": NEAR,
    "foresight": AHEAD,
    "practice": None,
    "practice, foresight": AHEAD,
}
"""Uses that are compared with the same clones."""
SEEDS = {5: (0, 1, 2), 25: (0,)}
"""Training seeds of the clones that the study trains, by demonstrations per task."""
MADE = {
    f"{use}, {demos} demonstrations, seed {seed}": Arm(use, demos, config, seed=seed)
    for demos, seeds in SEEDS.items()
    for seed in seeds
    for use, config in USES.items()
}
"""Arms with these clones."""


ARMS = {
    "few": Arm("clone", 5, policy="few"),
    "metric": Arm("plan", 0, CLOSED),
    "metric, few": Arm("plan", 5, NEAR),
    "energy": Arm("plan", 0, replace(CLOSED, objective={"energy": 1.0}, execute=3, options=LIGHT)),
    "energy, unlabelled": Arm("plan", 0, UNLABELLED),
    "energy, unlabelled, cem": Arm("plan", 0, replace(UNLABELLED, solver="cem")),
    "metric, random shooting": Arm("plan", 0, replace(CLOSED, solver="random")),
    "metric, cem": Arm("plan", 0, replace(CLOSED, solver="cem")),
    "metric, mppi": Arm("plan", 0, replace(CLOSED, solver="mppi")),
    "metric, gradient": Arm("plan", 0, replace(CLOSED, solver="gradient")),
    "bound, dream": Arm("plan", 0, SMALL),
    "bound, physics": Arm("bound", 0, SMALL),
    "foresight": Arm("foresight", 5, AHEAD),
    "foresight, margin": Arm("foresight", 5, replace(AHEAD, margin=1.5)),
    "foresight, metric": Arm("foresight", 5, replace(AHEAD, objective=METRIC)),
    "foresight, metric, worst": Arm("foresight", 5, replace(AHEAD, objective=METRIC, pick="worst")),
    "foresight, random": Arm("foresight", 5, replace(AHEAD, pick="random")),
    "foresight, sure": Arm("foresight", 5, SURE),
    "default": Arm("clone", 100, policy="state_grounded"),
    "foresight, default": Arm("foresight", 100, replace(AHEAD, policy="state_grounded")),
    "foresight, margin, default": Arm("foresight", 100, replace(AHEAD, policy="state_grounded", margin=1.5)),
    "foresight, sure, default": Arm("foresight", 100, replace(SURE, policy="state_grounded")),
    **{
        f"amplify, {control}" + (f", seed {seed}" if seed else ""): Arm("amplify", 5, policy=control, seed=seed)
        for seed in range(3)
        for control in CONTROLS
    },
    **MADE,
}
"""All arms by label, the most important first."""

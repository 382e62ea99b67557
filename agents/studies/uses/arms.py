"""What `agents.studies.uses` compares: ways to act, by their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dream_env.agents.planners.foresight import ForesightConfig
from dream_env.agents.planners.planner import PlannerConfig
from dream_env.agents.studies.uses.amplify import CONTROLS

METRIC = {"metric": 1.0}
CLOSED = PlannerConfig(objective=METRIC, path=1.0, execute=1, horizon=8)
"""Planning anew at every step, found on seeds from 200,000 on."""
NEAR = PlannerConfig(
    objective=ForesightConfig().objective,
    options={"samples": 48, "iterations": 2, "std": 0.25},
    execute=2,
    prior="few",
    anchor=2.0,
    draws=4,
)
"""Plans near a prior: of three ways the best on seeds from 200,000 on. A free search was worse than the prior."""
SURE = ForesightConfig(draws=8, sure=4.0, margin=3.0)
"""Leaves the policy only for a lead that is not by chance and worth three steps to the goal by the learned distance.
Chosen on seeds from 210,000 on: without the margin even leads of twelve standard errors were the dream's mistake."""
SMALL = replace(CLOSED, execute=3, horizon=6, options={"samples": 24, "iterations": 3, "elites": 5, "kept": 2})
"""A budget that physics can afford as the model."""
UNLABELLED = PlannerConfig(
    world_model="unlabelled", path=1.0, execute=1, horizon=5, options={"samples": 64, "iterations": 3}
)
"""By the energy of the model without labels. Found on seeds from 200,000 on, where 5 steps ahead did as well as 8."""
LIGHT = {"samples": 64, "iterations": 3}
"""Half the usual budget, where pictures have to be imagined."""


@dataclass(frozen=True)
class Arm:
    """One way to act.

    Attributes:
        use: "clone", "plan", "bound" (with physics as the model), "foresight", "amplify", "practice", or "practice,
            foresight", which looks ahead after it.
        demos: Demonstrations per task that its policy was cloned from; 0 without a policy.
        config: What plans or foresees; None for the policy by itself.
        policy: The policy by itself; one of `amplify.CONTROLS` where that is the use. Empty for one that the study
            clones, and practises where the use is "practice".
        seed: Of the policy's cloning and practice.
    """

    use: str
    demos: int
    config: PlannerConfig | ForesightConfig | None = None
    policy: str = ""
    seed: int = 0


USES: dict[str, PlannerConfig | ForesightConfig | None] = {
    "clone": None,
    "plan": NEAR,
    "foresight": ForesightConfig(),
    "practice": None,
    "practice, foresight": ForesightConfig(),
}
"""What is compared from the same clones."""
SEEDS = {5: (0, 1, 2), 25: (0,)}
"""Seeds of the clones that the study makes, by their demonstrations per task."""
MADE = {
    f"{use}, {demos} demonstrations, seed {seed}": Arm(use, demos, config, seed=seed)
    for demos, seeds in SEEDS.items()
    for seed in seeds
    for use, config in USES.items()
}
"""What acts with those."""


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
    "foresight": Arm("foresight", 5, ForesightConfig()),
    "foresight, margin": Arm("foresight", 5, ForesightConfig(margin=1.5)),
    "foresight, metric": Arm("foresight", 5, ForesightConfig(objective=METRIC)),
    "foresight, metric, worst": Arm("foresight", 5, ForesightConfig(objective=METRIC, pick="worst")),
    "foresight, random": Arm("foresight", 5, ForesightConfig(pick="random")),
    "foresight, sure": Arm("foresight", 5, SURE),
    "default": Arm("clone", 100, policy="default"),
    "foresight, default": Arm("foresight", 100, ForesightConfig(policy="default")),
    "foresight, margin, default": Arm("foresight", 100, ForesightConfig(policy="default", margin=1.5)),
    "foresight, sure, default": Arm("foresight", 100, replace(SURE, policy="default")),
    **{
        f"amplify, {control}" + (f", seed {seed}" if seed else ""): Arm("amplify", 5, policy=control, seed=seed)
        for seed in range(3)
        for control in CONTROLS
    },
    **MADE,
}
"""What is compared, by label, the most wanted first."""

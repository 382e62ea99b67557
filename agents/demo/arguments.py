"""Arguments of `agents.demo`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dream_env.checks import check_choice
from dream_env.nicol.tasks import TaskName
from dream_env.rewards import DEFAULT_REWARD, RewardName

FEWEST = 40
"""Fewest episodes for --from-scratch: with fewer, some stage has no training data. Also the number with --short."""


class Training(NamedTuple):
    """Training that suits one of the shipped world models.

    Attributes:
        init: Clone of a few demonstrations per task that takes the world model's embeddings.
        steps: Environment steps. A transformer learns more from each step, and takes longer for it.
        temperature: Temperature of the dreams.
        reward: Reward of RL.
    """

    init: str
    steps: int
    temperature: float
    reward: RewardName = DEFAULT_REWARD


Shipped = Literal["unlabelled", "state_grounded", "place_stack"]
SHIPPED: dict[Shipped, Training] = {
    "unlabelled": Training("unlabelled", 600_000, 1.5),
    "state_grounded": Training("bc5", 1_500_000, 1.0),
    "place_stack": Training("place_stack", 1_000_000, 1.5, "success"),
}
"""Training in each of the shipped world models; the first one is the default."""
USUAL: Shipped = "unlabelled"
FITTED: Shipped = "state_grounded"
"""Default world model, and the kind that --from-scratch fits."""


@dataclass(frozen=True)
class Arguments:
    """Trains a cloned policy by RL in a learned world model and evaluates it in physics before and after."""

    task: TaskName = "all"
    """Task to train and to evaluate."""
    world_model: Shipped | None = None
    """Shipped world model to train in. "unlabelled", the default, was fitted to images, states, actions, instructions
    and success marks; "state_grounded" also to the simulator's labels, and is what --from-scratch fits. Both know
    reach, push and lift. "place_stack" was fitted like "unlabelled", to place and stack."""
    init: str | None = None
    """Cloned policy to start from: a folder, or a shipped one. By default the clone of a few demonstrations per task
    that suits --world-model, "unlabelled", "bc5" or "place_stack". "default" was cloned from 100 per task for
    "state_grounded", which leaves little room for improvement."""
    out: Path | None = None
    """Output folder. By default nicol_demo, with _state_grounded, _place_stack, _short and _from_scratch appended for
    these options."""
    short: bool = False
    """Runs everything at a small size, in a minute or two, as a test of the installation. Its figures are
    meaningless."""
    from_scratch: bool = False
    """First collects episodes, fits a world model and clones a policy, instead of using the shipped world model and
    --init."""
    episodes: int = 50
    """Evaluation episodes per task, in physics and in the world model, before and after training."""
    steps: int | None = None
    """Training steps in the world model; by default 600,000, 1,500,000 in "state_grounded", which is faster, and
    1,000,000 in "place_stack"."""
    collected: int = 4500
    """Number of episodes to collect with --from-scratch."""
    demonstrations: int = 5
    """Demonstrations per task for cloning with --from-scratch. At least a thirtieth of --collected is available for
    each task (150 by default); so many leave little room for improvement by RL."""
    seed: int = 0
    """Seed of everything except the evaluation, which uses fixed held-out seeds."""

    def complete(self) -> Arguments:
        """Returns the arguments without None; with --short, with all sizes reduced.

        Raises:
            ValueError: If there is no such world model.
        """
        check_choice("world_model", self.world_model, (*SHIPPED, None))
        world_model, out = self.world_model or (FITTED if self.from_scratch else USUAL), self.folder
        usual = SHIPPED[world_model]
        init, steps = self.init or usual.init, usual.steps if self.steps is None else self.steps
        full = replace(self, world_model=world_model, init=init, out=out, steps=steps)
        if self.short:
            return replace(full, episodes=2, steps=24_576, collected=FEWEST, demonstrations=1)
        return full

    @property
    def folder(self) -> Path:
        """The output folder."""
        forms = [name for name in ("short", "from_scratch") if getattr(self, name)]
        other = self.world_model not in (None, FITTED if self.from_scratch else USUAL)
        return self.out or Path("_".join(["nicol_demo", *[str(self.world_model)] * other, *forms]))

    def settings(self) -> dict[str, Any]:
        """Returns the settings that cannot change when a run is resumed, as JSON types."""
        return {key: value for key, value in asdict(self).items() if key not in ("out", "episodes", "steps")}

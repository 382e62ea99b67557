"""Arguments of `agents.demo`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dream_env.checks import check_choice
from dream_env.nicol.tasks import TaskName

FEWEST = 40
"""Fewest episodes for --from-scratch: with fewer, some stage has no training data. Also the number with --short."""


class Training(NamedTuple):
    """Training that suits one of the shipped world models.

    Attributes:
        init: Clone of a few demonstrations per task that takes the world model's embeddings.
        steps: Environment steps. A transformer learns more from each step, and takes longer for it.
        temperature: Temperature of the dreams.
    """

    init: str
    steps: int
    temperature: float


SHIPPED = {
    "default": Training("bc5", 1_500_000, 1.0),
    "unlabelled": Training("unlabelled", 300_000, 1.5),
    "place_stack": Training("place_stack", 600_000, 1.5),
}
"""Training in each of the shipped world models."""


@dataclass(frozen=True)
class Arguments:
    """Trains a cloned policy by RL in a learned world model and evaluates it in physics before and after."""

    task: TaskName = "all"
    """Task to train and to evaluate."""
    world_model: Literal["default", "unlabelled", "place_stack"] = "default"
    """Shipped world model to train in. "default" was fitted with labels of the simulator; "unlabelled" was fitted to
    images, states, actions and instructions only. Both know reach, push and lift. "place_stack" was fitted like
    "unlabelled", to place and stack."""
    init: str | None = None
    """Cloned policy to start from: a folder, or a shipped one. By default the clone of a few demonstrations per task
    that suits --world-model, "bc5", "unlabelled" or "place_stack". "default" was cloned from 100 per task, which leaves
    little room for improvement."""
    out: Path | None = None
    """Output folder. By default nicol_demo, with _unlabelled, _place_stack, _short and _from_scratch appended for these
    options."""
    short: bool = False
    """Runs everything at a small size, in a minute or two, as a test of the installation. Its figures are
    meaningless."""
    from_scratch: bool = False
    """First collects episodes, fits a world model and clones a policy, instead of using the shipped world model and
    --init."""
    episodes: int = 50
    """Evaluation episodes per task, in physics and in the world model, before and after training."""
    steps: int | None = None
    """Training steps in the world model; by default 1,500,000, or 300,000 in "unlabelled" and 600,000 in
    "place_stack"."""
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
        check_choice("world_model", self.world_model, SHIPPED)
        usual = SHIPPED[self.world_model]
        init, steps, out = self.init or usual.init, usual.steps if self.steps is None else self.steps, self.folder
        if self.short:
            return replace(self, init=init, out=out, episodes=2, steps=24_576, collected=FEWEST, demonstrations=1)
        return replace(self, init=init, out=out, steps=steps)

    @property
    def folder(self) -> Path:
        """The output folder."""
        forms = [name for name in ("short", "from_scratch") if getattr(self, name)]
        forms = [self.world_model] * (self.world_model != "default") + forms
        return self.out or Path("_".join(["nicol_demo", *forms]))

    def settings(self) -> dict[str, Any]:
        """Returns the settings that cannot change when a run is resumed, as JSON types."""
        return {key: value for key, value in asdict(self).items() if key not in ("out", "episodes", "steps")}

"""Options of `agents.fit --model unified`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.checks import check_number
from dream_env.hub import named


@dataclass(frozen=True)
class Arguments:
    """Fits a world model and a policy as one network, on top of the encoder of another world model."""

    data: tuple[Path, ...]
    """Folders of recorded episodes."""
    out: Path
    """Output folder for the model, which is both world model and policy, and for the state of the run."""
    base: str = "unlabelled"
    """World model of kind slots or dynamics that provides encoder, decoder and embedding. Its dynamics is replaced."""
    teacher_policy: str | None = None
    """Trained policy to distill actions from, instead of learning them from demonstrations. It must read the base
    model's embedding. The dynamics is then also trained on rollouts of this policy in the world model `--teacher`."""
    teacher: str | None = None
    """World model in which the teacher policy acts; its rollouts are training data. None uses the base."""
    demonstrations: int | None = None
    """Number of demonstrations to use, the first ones of the data; None uses all."""
    per_task: int | None = None
    """Number of demonstrations to use of each task; replaces --demonstrations."""
    tasks: tuple[str, ...] = ()
    """Tasks whose demonstrations are used; empty uses all tasks."""
    kind: str | None = None
    """Kind of the episodes that count as demonstrations. None uses "demo" if there are any, otherwise the successful
    episodes if success was recorded, otherwise all episodes."""
    imitates: str = "action"
    """Imitation target: "action", the executed action, or a recorded label of the same length, such as "expert", the
    action of the demonstrator before noise was added."""
    goal: bool = True
    """Use the goal embedding as an input of the action stream, in a world with goals."""
    hindsight: float = 0.0
    """Share of the action examples, 0 to 1, that come from all episodes with hindsight relabelling: a later observation
    of the same episode is used as the goal. Needs a world with goals, and --goal."""
    action_weight: float = 1.0
    """Weight of the action loss; 0 fits a world model only."""
    token_weight: float = 1.0
    """Weight of the next-token loss; 0 trains the same network as a policy only, as an ablation."""
    recorded_weight: float = 0.75
    """With a teacher: share of the updates, 0.5 to 1, that train next tokens on recorded episodes; the other updates
    use rollouts of the teacher."""
    dreams: int = 4096
    """Number of teacher rollouts."""
    updates: int = 1500
    """Number of updates."""
    batch: int = 24
    """Windows per batch, for each head of the dynamics stream."""
    examples: int = 256
    """Action examples per batch."""
    ahead: int = 8
    """Length of a training window in steps, predicted open-loop."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    width: int = 64
    """Width of tokens."""
    hidden: int = 128
    """Width of hidden layers."""
    members: int = 3
    """Number of output heads of the dynamics stream, the ensemble whose disagreement is reported."""
    queries: int = 3
    """Number of action queries, the tokens of the action stream that attend to the state tokens."""
    features: int = 96
    """Size of the last hidden layer of the action stream."""
    chunk: int = 4
    """Number of actions predicted at once (action chunk); always 1 with a teacher."""
    sees: bool = False
    """Use the embedding as an input of the action stream, in addition to the tokens."""
    std: float = 0.17
    """Standard deviation of sampled actions, as a share of half the action range."""
    noise: float = 0.05
    """Standard deviation of the noise added to tokens while actions are learned from demonstrations."""
    told_noise: float = 0.5
    """Standard deviation of the noise added to the instruction and the embedding while actions are learned from
    demonstrations, in units of their own standard deviation. Without it, a few demonstrations are recognized by these
    inputs and memorized. The goal gets no noise."""
    held_out: float = 0.05
    """Share of the episodes that is held out for evaluation. If the base records its own held-out episodes and the data
    contain them, those are used instead."""
    cache: Path | None = None
    """Folder in which encoded episodes are cached for later fits; None disables the cache."""
    seed: int = 0
    """Seed of weights, batches and the held-out split."""
    threads: int = 1
    """Number of torch threads."""

    def __post_init__(self) -> None:
        """Validates the options as far as possible without reading files."""
        check_number("recorded_weight", self.recorded_weight, 0.5, 1)
        check_number("hindsight", self.hindsight, 0, 1)
        for name in ("action_weight", "token_weight", "noise", "told_noise", "seed"):
            check_number(name, getattr(self, name))
        for name in ("updates", "batch", "examples", "ahead", "dreams"):
            check_number(name, getattr(self, name), 1)
        if self.hindsight and not self.goal:
            raise ValueError(f"hindsight={self.hindsight} without goals; accepted: 0, or --goal")
        if self.teacher and not self.teacher_policy:
            raise ValueError(f"teacher={self.teacher!r} without a policy that acts in it; accepted: --teacher-policy")

    def settings(self) -> dict[str, Any]:
        """Returns the options that determine the result of a run, as JSON values."""
        ignored = ("data", "out", "threads", "cache")
        found = {name: value for name, value in asdict(self).items() if name not in ignored}
        return {name: str(named(value)) if isinstance(value, Path) else value for name, value in found.items()}

"""What `agents.fit --model unified` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.checks import check_number
from dream_env.hub import named


@dataclass(frozen=True)
class Arguments:
    """Fits world model and policy in one network, around the encoder of another world model."""

    data: tuple[Path, ...]
    """Folders of recorded episodes."""
    out: Path
    """Folder of world model and policy, and of the run."""
    base: str = "unlabelled"
    """World model, of kind slots or dynamics, whose encoder, decoder and embedding are taken over. Its own dynamics is
    not."""
    teacher_policy: str | None = None
    """Policy that actions are learned from, in the place of demonstrations: one that has practised, of any kind that
    looks at the base's embedding. Then the dream learns from the teacher's, too."""
    teacher: str | None = None
    """World model in whose dreams that policy acts, and whose steps are learned from; None takes the base."""
    demonstrations: int | None = None
    """Number of demonstrations, the first ones of the data; None takes all."""
    per_task: int | None = None
    """Number of demonstrations of each task, instead of --demonstrations of all together."""
    tasks: tuple[str, ...] = ()
    """Tasks whose demonstrations are taken; none for all."""
    kind: str | None = None
    """Kind of the episodes that are demonstrations. None takes "demo" where there are such, else the successful ones
    where success was recorded, else all."""
    imitates: str = "action"
    """What is imitated: "action", what was carried out, or a recorded label of that length, such as "expert", what a
    demonstrator meant before noise was added."""
    goal: bool = True
    """Tells actions the goal's embedding, in a world with goals."""
    hindsight: float = 0.0
    """Share of the action examples that come from all episodes: which actions led to what was seen some steps later,
    shown as the goal. In a world with goals, with --goal."""
    action_weight: float = 1.0
    """Weight of the loss of actions beside that of next tokens; 0 fits a world model alone."""
    token_weight: float = 1.0
    """Weight of the loss of next tokens; 0 is the control, the same network as a policy alone."""
    recorded_weight: float = 0.75
    """With a teacher: share of the updates that learn next tokens from recorded episodes, 0.5 to 1; the others learn
    them from the teacher's dreams."""
    dreams: int = 4096
    """Dreams of the teacher."""
    updates: int = 1500
    """Updates."""
    batch: int = 24
    """Windows of a batch, for each head of the dream stream."""
    examples: int = 256
    """Action examples of a batch."""
    ahead: int = 8
    """Steps of a window, predicted from predictions."""
    learning_rate: float = 2e-3
    """Peak of the learning rate."""
    width: int = 64
    """Width of tokens."""
    hidden: int = 128
    """Width of hidden layers."""
    members: int = 3
    """Heads of the dream stream: the ensemble whose disagreement is told."""
    queries: int = 3
    """Tokens of the action stream, which gather from the others what an action needs."""
    features: int = 96
    """Numbers that actions are made of."""
    chunk: int = 4
    """Actions that are chosen at once; with a teacher 1."""
    sees: bool = False
    """Lets actions look at the embedding beside the tokens."""
    std: float = 0.17
    """Standard deviation of drawn actions, as a share of half the bounds."""
    noise: float = 0.05
    """Standard deviation of what is added to tokens that actions are learned from demonstrations by."""
    told_noise: float = 0.5
    """The same of what actions are told beside them, but for the goal: sentence and embedding, in their own deviations.
    Without it a few demonstrations are told apart by these numbers, and learned by heart."""
    held_out: float = 0.05
    """Share of the episodes that figures are measured on; where the base knows its own held-out ones, those."""
    cache: Path | None = None
    """Folder in which encoded episodes are kept for further fits; None keeps none."""
    seed: int = 0
    """Seed of weights, batches and what is held out."""
    threads: int = 1
    """Threads of torch."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
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
        """Returns what fixes the course of a run, JSON-able."""
        free = ("data", "out", "threads", "cache")
        found = {name: value for name, value in asdict(self).items() if name not in free}
        return {name: str(named(value)) if isinstance(value, Path) else value for name, value in found.items()}

"""What `agents.clone --policy transformer` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.policies.action_heads import HeadName
from dream_env.checks import check_choice, check_number


@dataclass(frozen=True)
class Arguments:
    """Clones demonstrations of any robot into a VLA that looks for itself."""

    data: tuple[Path, ...]
    """Folders of episodes, as one; with --share the demonstrations are of the first, and the share of the others."""
    out: Path
    """Folder of the policy, of the curves (tensorboard/) and the run's state (last/)."""
    world_model: str = "default"
    """Checkpoint of the world model, of any kind, whose encoder sees."""
    demonstrations: int | None = None
    """Number of demonstrations, the first ones of the data; None takes all."""
    per_task: int | None = None
    """Number of demonstrations of each task, instead of --demonstrations of all together."""
    tasks: tuple[str, ...] = ()
    """Tasks whose demonstrations are taken; none for all."""
    kind: str | None = None
    """Kind of the episodes that are demonstrations. None takes "demo" where there are such, else the successful ones
    where success was recorded, else all."""
    share: float = 0.0
    """Share of every batch that comes from the further folders, such as dreamt episodes; their successful ones."""
    imitates: str = "action"
    """What is imitated: "action", what was carried out, or a recorded label of that length, such as "expert", what a
    demonstrator meant before noise was added."""
    goal: bool = False
    """Shows the policy the goal, where episodes have one."""
    hindsight: float = 0.0
    """Share of every batch that comes from all recorded episodes, whatever acted: which actions lead to what was seen
    some steps later, shown as the goal. Perception learns from it; a policy without --goal acts without goals. 1 takes
    no demonstrations at all (Ghosh et al. 2021, "Learning to reach goals via iterated supervised learning")."""
    language: Literal["words", "sentence", "none"] | None = None
    """How the sentence is read: word by word, as one vector, or not. None takes words where episodes have sentences."""
    head: HeadName = "gaussian"
    """What makes actions: one Gaussian, "k" of them, or a "flow"; these two keep different ways apart."""
    modes: int = 4
    """Gaussians of the head "k"."""
    chunk: int = 4
    """Actions that are chosen at once."""
    execute: int = 1
    """How many of them are carried out before the policy looks again."""
    std: float = 0.17
    """Standard deviation of drawn actions, as a share of half their bounds."""
    width: int = 64
    """Width of the network."""
    depth: int = 2
    """Layers of the network."""
    latents: int = 8
    """Latents of the network, which gather what matters."""
    updates: int = 3000
    """Number of updates."""
    batch: int = 256
    """Frames per update."""
    rate: float = 1e-3
    """Peak of the learning rate, which falls to 0 as a cosine."""
    noise: float = 0.2
    """Standard deviation of the noise on embeddings, in their own deviations."""
    held_out: float = 0.1
    """Part of the demonstrations that is measured on and not trained on."""
    seed: int = 0
    """Seed of weights, batches and split."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        check_choice("head", self.head, HeadName)
        for name in ("demonstrations", "per_task"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, beside="None, ")
        for name in ("updates", "batch", "chunk", "execute"):
            check_number(name, getattr(self, name), 1)
        for name in ("rate", "noise", "seed"):
            check_number(name, getattr(self, name))
        for name in ("share", "hindsight", "held_out"):
            check_number(name, getattr(self, name), high=1)
        if self.share + self.hindsight >= 1 and not (self.hindsight == 1 and self.goal and not self.share):
            raise ValueError(
                f"share={self.share}, hindsight={self.hindsight}, goal={self.goal}; accepted: less than 1 together, or "
                "hindsight=1 alone with a goal"
            )
        if self.share and len(self.data) < 2:
            raise ValueError(f"share={self.share} with {len(self.data)} folder of data; accepted: two folders or more")

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run, JSON-able."""
        values = {k: v for k, v in asdict(self).items() if k != "out"}
        values["data"] = [str(Path(one).resolve()) for one in self.data]
        return values | {"tasks": list(self.tasks), "world_model": str(self.world_model)}

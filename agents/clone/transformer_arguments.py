"""Arguments of `agents.clone --policy transformer`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.policies.action_heads import HeadName
from dream_env.checks import check_choice, check_number


@dataclass(frozen=True)
class Arguments:
    """Trains a transformer VLA for any robot on demonstrations (behavior cloning)."""

    data: tuple[Path, ...]
    """Folders of episodes, used as one dataset. With --share, the first folder has the demonstrations, and the share is
    drawn from the others."""
    out: Path
    """Output folder: the policy, the curves (tensorboard/) and the state of the run (last/)."""
    world_model: str = "default"
    """World model, of any kind, whose encoder provides the policy's observations: name or folder."""
    demonstrations: int | None = None
    """Number of demonstrations; the first ones in the data are used. By default all."""
    per_task: int | None = None
    """Number of demonstrations per task, instead of --demonstrations."""
    tasks: tuple[str, ...] = ()
    """Tasks whose demonstrations are used. By default all."""
    kind: str | None = None
    """Kind of the episodes that are used as demonstrations. By default "demo" if there are such episodes, else the
    successful ones if success was recorded, else all."""
    share: float = 0.0
    """Share of every batch, 0 to 1, that is drawn from the successful episodes of the further folders, such as episodes
    synthesized in a world model."""
    imitates: str = "action"
    """Label to imitate: "action" for the executed action, or a recorded label of the same shape, such as "expert" for
    the demonstrator's action before noise was added."""
    goal: bool = False
    """Adds the goal embedding to the policy's inputs, if episodes have goals."""
    hindsight: float = 0.0
    """Share of every batch, 0 to 1, that is drawn from all recorded episodes with hindsight goals: an observation some
    steps later becomes the goal of the action. This trains perception also from episodes that are not demonstrations; a
    policy without --goal still acts without goals. 1 uses no demonstrations at all (Ghosh et al. 2021, "Learning to
    reach goals via iterated supervised learning") and requires --goal."""
    language: Literal["words", "sentence", "none"] | None = None
    """How the instruction is read: word by word, as one sentence embedding, or not at all. By default "words" if
    episodes have instructions."""
    head: HeadName = "gaussian"
    """Action head: "gaussian" (one Gaussian), "k" (a mixture of Gaussians) or "flow" (flow matching). Use "k" or "flow"
    if demonstrations solve the same situation in different ways."""
    modes: int = 4
    """Number of Gaussians of the head "k"."""
    chunk: int = 4
    """Number of actions that are predicted at once."""
    execute: int = 1
    """Number of actions of a chunk that are executed before the next prediction."""
    std: float = 0.17
    """Standard deviation of sampled actions, as a fraction of half the action range."""
    width: int = 64
    """Width of the network."""
    depth: int = 2
    """Number of layers of the network."""
    latents: int = 8
    """Number of latents of the network, which attend to the observation (Perceiver)."""
    updates: int = 3000
    """Number of gradient updates."""
    batch: int = 256
    """Batch size in frames."""
    rate: float = 1e-3
    """Peak learning rate; it decays to 0 by a cosine schedule."""
    noise: float = 0.2
    """Standard deviation of the Gaussian noise that is added to embeddings, relative to the standard deviation of each
    of their channels."""
    instruction_noise: float = 1.0
    """Noise on the sentence embedding, as a fraction of its length, so that the policy also follows phrasings that it
    was not trained on. Only with --language sentence."""
    held_out: float = 0.1
    """Fraction of the demonstrations that is held out for validation."""
    seed: int = 0
    """Seed of the weights, the batches and the validation split."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        check_choice("head", self.head, HeadName)
        for name in ("demonstrations", "per_task"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, beside="None, ")
        for name in ("updates", "batch", "chunk", "execute"):
            check_number(name, getattr(self, name), 1)
        for name in ("rate", "noise", "instruction_noise", "seed"):
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
        """Returns the settings that determine the result of a run, as JSON types."""
        values = {k: v for k, v in asdict(self).items() if k != "out"}
        values["data"] = [str(Path(one).resolve()) for one in self.data]
        return values | {"tasks": list(self.tasks), "world_model": str(self.world_model)}

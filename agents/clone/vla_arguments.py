"""Arguments of `agents.clone` (`--policy vla`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number
from dream_env.nicol.language import COLORS


@dataclass(frozen=True)
class Arguments:
    """Trains NICOL's VLA on demonstrations of the scripted expert (behavior cloning)."""

    data: tuple[Path, ...]
    """Folders of episodes. The first one has the demonstrations, recorded by `python -m agents.collect`. Further ones
    are used only with --share."""
    out: Path
    """Output folder: the policy, the curves (tensorboard/) and the state of the run (last.pt)."""
    demos: int = 300
    """Number of demonstrations, over all tasks. The first ones in the data are used."""
    per_task: int | None = None
    """Number of demonstrations per task, instead of --demos."""
    world_model: str = "state_grounded"
    """World model whose encoder provides the policy's observations: name or folder of a state-grounded one."""
    share: float = 0.0
    """Share of every batch, 0 to 1, that is drawn from the further folders, such as data of
    `python -m agents.synthesize`. Of these, successful episodes are used, with the executed actions as labels."""
    grounded: bool = True
    """Initializes the policy with parts of the world model that were trained on all recorded episodes: those that find
    the object that an instruction names, and estimate its position. Few demonstrations then suffice."""
    looks: bool = False
    """Adds language queries that attend to the vision tokens. If the world model has a state estimator (see
    --grounded), the policy generalizes better without them: what they learn from few demonstrations does not hold in
    other pictures."""
    recolor: int = len(COLORS) - 1
    """Number of recolored copies of every demonstration, 0 to 3, as data augmentation: the cubes swap colors, and the
    instruction changes with them. Use 0 if more than the cubes is colored in the pictures."""
    updates: int = 3000
    """Number of gradient updates."""
    batch: int = 256
    """Batch size in frames."""
    rate: float = 3e-3
    """Peak learning rate; it decays to 0 by a cosine schedule."""
    weight_decay: float = 0.1
    """Weight decay (AdamW)."""
    token_noise: float = 0.2
    """Standard deviation of the Gaussian noise that is added to the vision tokens, whose own is about 1. Raise it
    against overfitting."""
    closing_weight: float = 1.0
    """Loss weight of the hand-closing action; the displacements have weight 1."""
    held_out: float = 0.1
    """Fraction of the demonstrations that is held out for validation."""
    seed: int = 0
    """Seed of the weights, the batches and the validation split."""
    save_every: int = 500
    """Updates between validations; the state of the run is saved at the same time."""
    snapshots: tuple[int, ...] = ()
    """Updates after which a copy of the policy is saved to snapshots/UPDATE. This gives policies of different quality
    for `python -m agents.fidelity`."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        given: Any = self.data
        if isinstance(given, str | Path):  # callers in Python may pass a single folder
            object.__setattr__(self, "data", (Path(given),))
        if bool(self.share) != (len(self.data) > 1):
            raise ValueError(
                f"share={self.share} with {len(self.data)} folders of data; accepted: a share with two folders or more"
            )
        check_number("share", self.share, high=1)
        check_choice("recolor", self.recolor, range(len(COLORS)))
        check_number("demos", self.demos, 2)
        if self.per_task is not None:
            check_number("per_task", self.per_task, 1, beside="None, ")
        for name in ("updates", "batch", "save_every"):
            check_number(name, getattr(self, name), 1)
        for name in ("rate", "weight_decay", "token_noise", "closing_weight", "seed"):
            check_number(name, getattr(self, name))
        check_number("held_out", self.held_out, high=1)

    def settings(self) -> dict[str, str]:
        """Returns the settings that determine the result of a run."""
        values = {key: str(value) for key, value in asdict(self).items() if key not in ("out", "snapshots")}
        values["data"] = str(self.data[0])
        if len(self.data) > 1:
            values["further"] = " ".join(str(folder.resolve()) for folder in self.data[1:])
        else:
            del values["share"]  # so that runs from before this option existed can be resumed
        return resolve_paths(values)

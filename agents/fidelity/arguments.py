"""Command-line options of `agents.fidelity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.nicol.tasks import STANDARD


@dataclass(frozen=True)
class Arguments:
    """Reports whether a world model is accurate enough to train in: dream against physics, on held-out seeds."""

    data: Path
    """Folder of the episodes that the probe is trained on, written by `python -m agents.collect`. The episodes that the
    world model was fitted to can be used."""
    policies: tuple[str, ...] = ()
    """Folders of policies of different quality for the ranking; use 20 or more for a meaningful result. `agents.clone
    --snapshots` and `agents.train --snapshots` write them. They must use the encoder of the world model under test."""
    world_model: str = "state_grounded"
    """Checkpoint of the world model under test."""
    out: Path = Path("results")
    """Folder of fidelity.json, fidelity.md, fidelity.png and fidelity_TASK.png."""
    cache: Path = Path("runs/fidelity")
    """Folder of intermediate results that later runs reuse."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks to measure."""
    episodes: int = 600
    """Number of held-out episodes to replay in total. They are divided evenly among the tasks and among the behaviors:
    the expert, the expert with misjudged cube positions, random play, and the policies."""
    policy_episodes: int = 50
    """Episodes per task, policy and world for the ranking."""
    again: int = 150
    """Number of held-out episodes that physics repeats with every cube displaced by 3 mm, as a reference for the errors
    of the dream; 0 skips this."""
    scenes: int = 60
    """Scenes per task for the figures of the default reward, as in `python -m agents.studies.reward_audit`; 0 skips
    them."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    temperature: float = 1.0
    """Temperature of the dreams that policies act in, see `NicoLDream-v0`. Recorded actions are always replayed at 0
    (most likely prediction): with noise, a cube could slip in the dream although the recorded actions go on as if it
    had not, or the other way round."""
    probe_episodes: int = 2000
    """Episodes of --data that the probe is trained on."""
    probe_updates: int = 3000
    """Gradient updates of the probe."""
    workers: int | None = None
    """Number of physics processes; all cores by default."""
    ray: bool = False
    """Use all cores of a Ray cluster instead, or of this machine if Ray finds no cluster. Needs the extra `ray`."""

    def task_names(self) -> tuple[str, ...]:
        """Returns the tasks.

        Raises:
            ValueError: If a task is unknown or named twice, or a number is out of range.
        """
        names = split(self.tasks)
        check_tasks(names)
        if self.episodes < 4 * len(names):
            raise ValueError(f"episodes={self.episodes}; accepted: {4 * len(names)} or more, so that all kinds act")
        if self.policy_episodes < 1:
            raise ValueError(f"policy_episodes={self.policy_episodes}; accepted: 1 or more")
        return names

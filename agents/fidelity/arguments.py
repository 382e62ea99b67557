"""What `agents.fidelity` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.nicol.tasks import STANDARD


@dataclass(frozen=True)
class Arguments:
    """Tells whether a world model may be trained in: dream against physics, on held-out seeds."""

    data: Path
    """Folder of the episodes that the probes are trained on, written by `python -m agents.collect`;
    those that the world model was fitted to will do."""
    policies: tuple[str, ...] = ()
    """Folders of policies of different quality; 20 or more make the ranking mean something. `agents.clone
    --snapshots` and `agents.train --snapshots` leave them. They have to see through the encoder of
    the world model under test."""
    world_model: str = "default"
    """Checkpoint of the world model under test."""
    out: Path = Path("results")
    """Folder of fidelity.json, fidelity.md, fidelity.png and fidelity_TASK.png."""
    cache: Path = Path("runs/fidelity")
    """Folder of what the next run need not make again."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks to measure."""
    episodes: int = 600
    """Held-out episodes to replay, over tasks and over what acts: the expert, the expert with
    misjudged cubes, play, and the policies."""
    policy_episodes: int = 50
    """Episodes per task, policy and world for the ranking."""
    again: int = 150
    """Held-out episodes that physics plays again with the cubes 3 mm elsewhere, as the measure for the dream's own
    errors; 0 leaves them out."""
    scenes: int = 60
    """Scenes per task for the default reward's figures, those of `python -m agents.studies.reward_audit`; 0 leaves them
    out."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    temperature: float = 1.0
    """Temperature of the dreams that policies act in, see `NicoLDream-v0`. Recordings are replayed at 0, by what is
    likeliest: by noise a cube would slip where the recorded hand goes on as if it had not, or the other way round."""
    probe_episodes: int = 2000
    """Episodes of --data that the probe is trained on."""
    probe_updates: int = 3000
    """Updates of the probe."""
    workers: int | None = None
    """Processes in physics; all cores by default."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""

    def task_names(self) -> tuple[str, ...]:
        """Returns the tasks.

        Raises:
            ValueError: If one is unknown or named twice, or a number is out of range.
        """
        names = split(self.tasks)
        check_tasks(names)
        if self.episodes < 4 * len(names):
            raise ValueError(f"episodes={self.episodes}; accepted: {4 * len(names)} or more, so that all kinds act")
        if self.policy_episodes < 1:
            raise ValueError(f"policy_episodes={self.policy_episodes}; accepted: 1 or more")
        return names

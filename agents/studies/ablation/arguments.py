"""What `agents.studies.ablation` can be told."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dream_env.checks import check_choice

if TYPE_CHECKING:
    from dream_env.agents.studies.ablation.row import Job

OTHER_SEED = "--seed {} --split-seed 0"
QUESTIONS: dict[str, dict[str, str]] = {
    "chance": {"base": "", "another seed": OTHER_SEED.format(1), "a third seed": OTHER_SEED.format(2)},
    "loss": {
        "tokens and object state (base)": "",
        "tokens only": "--object-state-weight 0",
        "object state 10 times": "--object-state-weight 30",
    },
    "optimizer": {
        "Muon and AdamW (base)": "",
        "AdamW": "--no-muon --state-estimator-rate 3e-3 --arm-renderer-rate 3e-3 --predictor-rate 2e-3",
    },
    "arm": {"rendered (base)": "", "not rendered": "--model.arm-renderer-width 0"},
    "cubes": {"drawn as heat maps (base)": "", "told as numbers only": "--model.no-cube-heatmaps"},
    "colors": {"as recorded (base)": "", "every cube in all four": "--recolor 3"},
    "windows": {"any": "--moving 0", "half in motion (base)": "", "all in motion": "--moving 1"},
    "horizon": {
        "1": "--horizons 1",
        "2": "--horizons 2",
        "2, 4, 8, 12 (base)": "",
        "2, 4, 8, 16": "--horizons 2 4 8 16",
    },
    "size": {
        "32 wide, 2 blocks (base)": "",
        "48 wide, 3 blocks": "--model.width 48 --model.blocks 3",
        "64 wide, 4 blocks": "--model.width 64 --model.blocks 4",
    },
    "ensemble": {"1 head": "--model.ensemble 1", "3 heads (base)": "", "5 heads": "--model.ensemble 5"},
    "mixture": {"1": "--model.mixture-components 1", "2 (base)": "", "4": "--model.mixture-components 4"},
    "data": {
        "all (base)": "",
        "experts only": "--kinds expert,demo",
        "play only": "--kinds play,random",
        "no near misses": "--kinds expert,demo,play,random",
    },
    "encoder": {
        "map, pixels": "--objective pixels",
        "map, latent prediction": "--objective latent",
        "map, both": "--objective both",
    },
}
"""By question and name: what differs from the base, as arguments of `agents.fit`. Rows of the last train an encoder."""


@dataclass(frozen=True)
class Arguments:
    """What makes the world model good: one table of fits that differ in one thing each, at equal compute."""

    data: tuple[Path, ...]
    """Folders of the episodes, written by `python -m agents.collect`."""
    autoencoder: Path
    """Checkpoint whose auto-encoder the rows about the predictor share; best one that saw the same training episodes,
    with the split of seed 0."""
    out: Path = Path("results")
    """Folder of ablation.json and ablation.md."""
    runs: Path = Path("runs/ablation")
    """Folder of the rows' checkpoints and logs, and of what they share."""
    minutes: float = 4.0
    """CPU minutes of training per row."""
    encoder_minutes: float = 8.0
    """CPU minutes of training per row that trains its own encoder."""
    episodes: int = 2400
    """Training episodes."""
    probe_updates: int = 3000
    """Updates of a probe."""
    questions: str = ",".join(QUESTIONS)
    """Questions whose rows are run now, separated by commas; those of others that have run stay in the table."""
    fit: str = ""
    """Further arguments of `agents.fit` for all rows: `--fit="--held-out 0.1"`."""
    workers: int = 2
    """Rows that run side by side, one thread each."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""

    def asked(self) -> list[str]:
        """Returns the questions.

        Raises:
            ValueError: If one is unknown, or a number is out of range.
        """
        names = [name.strip() for name in self.questions.split(",")]
        for name in names:
            check_choice("questions", name, QUESTIONS)
        for number in ("minutes", "encoder_minutes", "episodes", "probe_updates", "workers"):
            if getattr(self, number) <= 0:
                raise ValueError(f"{number}={getattr(self, number)}; accepted: more than 0")
        return names

    def job(self, question: str, change: str, encoder: str) -> Job:
        """Makes the call of `agents.fit` for a row; rows that are alike make the same one.

        Args:
            question: The question.
            change: What differs from the base.
            encoder: Digest of the auto-encoder, as another one makes another run.
        """
        own_encoder = question == "encoder"
        words = ["--data", *map(str, self.data), "--episodes", str(self.episodes), "--metric-updates", "0"]
        words += ["--painter-updates", "0"]
        words += [
            "--minutes",
            str(self.encoder_minutes if own_encoder else self.minutes),
            "--cpu-time",
            "--threads",
            "1",
        ]
        words += [] if own_encoder else ["--autoencoder", str(self.autoencoder)]
        words += ["--recolor", "0", *shlex.split(self.fit)] + shlex.split(change)
        digest = hashlib.sha256(repr([encoder, *words]).encode()).hexdigest()[:8]
        name = f"{'encoder' if own_encoder else 'predictor'}-{digest}"
        from dream_env.agents.studies.ablation.row import Job

        return Job(name, ("--out", str(self.runs / name), *words), self.runs, self.probe_updates)

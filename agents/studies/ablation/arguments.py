"""Command-line options of `agents.studies.ablation`."""

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
"""Maps question and row name to the options of `agents.fit` that differ from the base. Rows of the last question train
their own encoder."""


@dataclass(frozen=True)
class Arguments:
    """Ablates the world model: fits that differ from a base in one choice each, at equal compute."""

    data: tuple[Path, ...]
    """Folders of the episodes, written by `python -m agents.collect`."""
    autoencoder: Path
    """Checkpoint whose auto-encoder is shared by the rows about the predictor. It should have been trained on the same
    training episodes, with the split of seed 0."""
    out: Path = Path("results")
    """Folder of ablation.json and ablation.md."""
    runs: Path = Path("runs/ablation")
    """Folder of the rows' checkpoints and logs, and of shared intermediate results."""
    minutes: float = 4.0
    """CPU minutes of training per row."""
    encoder_minutes: float = 8.0
    """CPU minutes of training per row that trains its own encoder."""
    episodes: int = 2400
    """Number of training episodes."""
    probe_updates: int = 3000
    """Gradient updates of a probe."""
    questions: str = ",".join(QUESTIONS)
    """Questions whose rows are run, separated by commas. Finished rows of other questions stay in the table."""
    fit: str = ""
    """Additional options of `agents.fit` for all rows, such as `--fit="--held-out 0.1"`."""
    workers: int = 2
    """Number of rows that run in parallel, one thread each."""
    ray: bool = False
    """Use all cores of a Ray cluster instead, or of this machine if Ray finds no cluster. Needs the extra `ray`."""

    def asked(self) -> list[str]:
        """Returns the questions to run.

        Raises:
            ValueError: If a question is unknown, or a number is out of range.
        """
        names = [name.strip() for name in self.questions.split(",")]
        for name in names:
            check_choice("questions", name, QUESTIONS)
        for number in ("minutes", "encoder_minutes", "episodes", "probe_updates", "workers"):
            if getattr(self, number) <= 0:
                raise ValueError(f"{number}={getattr(self, number)}; accepted: more than 0")
        return names

    def job(self, question: str, change: str, encoder: str) -> Job:
        """Returns the `agents.fit` job of a row; identical rows share a job.

        Args:
            question: The question.
            change: Options that differ from the base.
            encoder: Digest of the auto-encoder; another auto-encoder gives another run.
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

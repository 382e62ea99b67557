"""Command-line options of `agents.studies.bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Benchmarks world model, environments, training and planning on this machine."""

    out: Path | None = None
    """Folder of bench.json, bench.md and bench.png, or of bench_cuda.json and bench_cuda.md. None: results, or
    runs/bench_quick with --quick."""
    world_model: str = "state_grounded"
    """Checkpoint of the world model."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device to measure on. "cuda" skips what runs on CPUs only, such as physics."""
    peers: bool = False
    """Also measure other wrappers of the same world model: Gymnasium's SyncVectorEnv, and TorchRL's WorldModelEnv if
    torchrl is installed."""
    quick: bool = False
    """Use small batches, short turns and one core, to check that everything runs. The figures are not meaningful."""
    seconds: float = 0.8
    """Length of a turn in seconds. A turn is one timed repetition of a row."""
    repeats: int = 3
    """Turns of every row; the fastest counts."""

    def __post_init__(self) -> None:
        """Checks every number."""
        check_number("seconds", self.seconds)
        check_number("repeats", self.repeats, low=1)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.out or Path("runs/bench_quick" if self.quick else "results")

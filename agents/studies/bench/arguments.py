"""What `agents.studies.bench` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Measures what dreaming costs on this machine."""

    out: Path | None = None
    """Folder of bench.json, bench.md and bench.png, or of bench_cuda.json and bench_cuda.md; None takes results, and
    runs/bench_quick with --quick."""
    world_model: str = "default"
    """Checkpoint of the world model."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where everything is measured; "cuda" leaves out what runs on CPUs only, such as physics."""
    peers: bool = False
    """Measures other wrappers of the same world model too: Gymnasium's SyncVectorEnv, and TorchRL's WorldModelEnv where
    `pip install torchrl` was done."""
    quick: bool = False
    """Small batches, short turns and one core, to see that everything runs; its figures mean little."""
    seconds: float = 0.8
    """Length of a turn."""
    repeats: int = 3
    """Turns of every row, of which the best counts."""

    def __post_init__(self) -> None:
        """Checks every number."""
        check_number("seconds", self.seconds)
        check_number("repeats", self.repeats, low=1)

    @property
    def folder(self) -> Path:
        """The folder that is written."""
        return self.out or Path("runs/bench_quick" if self.quick else "results")

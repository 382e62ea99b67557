"""What studies of policies share: a cell is one policy and its episodes, kept in a folder, and played once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.eval.results import EpisodeResult, load_results
from dream_env.progress import progress_bar

EPISODES = "episodes.jsonl"
"""File of a cell's episodes; a cell that has it is finished."""


@dataclass(frozen=True)
class Cell:
    """One policy of a study.

    Attributes:
        row: Name of its row: how it was made, and what it is played under.
        demos: Demonstrations of each task that it learned from.
        seed: Seed of its training.
    """

    row: str
    demos: int
    seed: int

    def folder(self, work: Path) -> Path:
        """Returns where it is kept within a study's folder: policy/, episodes.jsonl, and what it took."""
        return work / f"demos{self.demos}" / f"{re.sub(', |/', '-', self.row).replace(' ', '_')}-{self.seed}"

    def played(self, work: Path) -> list[EpisodeResult]:
        """Returns its episodes; none where it was not played."""
        file = self.folder(work) / EPISODES
        return load_results(file) if file.is_file() else []


def play_each(cells: Iterable[Cell], play: Callable[[Cell], None], report: Callable[[], str]) -> str:
    """Plays cells and returns the report, which is written after every one: a killed study has told what it has.

    Args:
        cells: What to play.
        play: Plays one, unless that is done.
        report: Writes the report of all that is there, and returns it.
    """
    for cell in (bar := progress_bar(list(cells), "policies", unit="policy")):
        bar.set_postfix_str(f"{cell.row}, {cell.demos} demonstrations, seed {cell.seed}")
        play(cell)
        report()
    return report()

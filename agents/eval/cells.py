"""Cells of studies: a cell is one policy of a study and its evaluation episodes, which are run once and saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.eval.results import EpisodeResult, load_results
from dream_env.progress import progress_bar

EPISODES = "episodes.jsonl"
"""File with a cell's episodes; a cell that has this file is finished."""


@dataclass(frozen=True)
class Cell:
    """One policy of a study.

    Attributes:
        row: Name of its row in the table: how it was trained, and the conditions of its evaluation.
        demos: Number of demonstrations per task that it was trained on.
        seed: Seed of its training.
    """

    row: str
    demos: int
    seed: int

    def folder(self, work: Path) -> Path:
        """Returns the cell's folder within a study's folder, with policy/, episodes.jsonl and the training time."""
        return work / f"demos{self.demos}" / f"{re.sub(', |/', '-', self.row).replace(' ', '_')}-{self.seed}"

    def played(self, work: Path) -> list[EpisodeResult]:
        """Returns its episodes; an empty list if it has not been evaluated."""
        file = self.folder(work) / EPISODES
        return load_results(file) if file.is_file() else []


Played = Mapping[Cell, Sequence[EpisodeResult]]
"""Finished cells with their episodes."""


def outcomes(
    played: Played, row: str, demos: int, world: str = "physics", task: str = "all"
) -> dict[tuple[int, str, int], bool]:
    """Returns the successes of a row in a world by training seed, task and episode seed.

    Episodes that are solved at the start are left out, and those of other tasks unless `task` is "all".
    """
    return {
        (cell.seed, one.task, one.seed): one.success
        for cell, episodes in played.items()
        if (cell.row, cell.demos) == (row, demos)
        for one in episodes
        if one.world == world and task in (one.task, "all") and not one.solved_at_start
    }


def play_each(cells: Iterable[Cell], play: Callable[[Cell], None], report: Callable[[], str]) -> str:
    """Evaluates cells and returns the report.

    The report is written after every cell, so an interrupted study has a report of what is finished.

    Args:
        cells: Cells to evaluate.
        play: Evaluates one cell, unless it is finished.
        report: Writes the report of all finished cells, and returns it.
    """
    for cell in (bar := progress_bar(list(cells), "policies", unit="policy")):
        bar.set_postfix_str(f"{cell.row}, {cell.demos} demonstrations, seed {cell.seed}")
        play(cell)
        report()
    return report()

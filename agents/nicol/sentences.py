"""Every sentence that the grammars of the tasks make."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.nicol.language import COLORS, Split
from dream_env.nicol.tasks import TASKS


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it means."""

    words: str
    task: str
    color: str


def sentences(split: Split) -> list[Sentence]:
    """Lists all sentences of a split, of every task and color."""
    return [
        Sentence(words, name, color)
        for name, task in TASKS.items()
        for color in COLORS
        for words in task.grammar.sentences(color, split)
    ]

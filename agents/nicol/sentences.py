"""Lists all sentences that the grammars of the standard tasks generate, which the shipped policy was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.nicol.language import COLORS, Split
from dream_env.nicol.tasks import STANDARD, TASKS


@dataclass(frozen=True)
class Sentence:
    """A sentence with its task and color."""

    words: str
    task: str
    color: str


def sentences(split: Split) -> list[Sentence]:
    """Lists all sentences of a split, for every standard task and color."""
    return [
        Sentence(words, name, color)
        for name in STANDARD
        for color in COLORS
        for words in TASKS[name].grammar.sentences(color, split)
    ]

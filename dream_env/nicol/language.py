"""The words of NICOL's sentences: colors, objects, and the grammar of every task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from dream_env.checks import check_choice

Split = Literal["train", "test"]

COLORS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.85, 0.08, 0.08, 1.0),
    "green": (0.05, 0.60, 0.15, 1.0),
    "blue": (0.08, 0.22, 0.88, 1.0),
    "yellow": (0.98, 0.80, 0.02, 1.0),
}
"""Colors of objects, RGBA in [0, 1], that stand out on the white table and from each other."""


@dataclass(frozen=True)
class Words:
    """Words for one thing: those of both splits, and those of the test split only."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, split: Split) -> tuple[str, ...]:
        """Returns the words that sentences of this split use."""
        return self.train if split == "train" else self.train + self.held_out


COLOR_WORDS: dict[str, Words] = {
    "red": Words(("red", "crimson", "reddish"), ("ruby",)),
    "green": Words(("green", "greenish"), ("verdant",)),
    "blue": Words(("blue", "bluish"), ("azure",)),
    "yellow": Words(("yellow", "golden", "yellowish"), ("gold",)),
}
OBJECT_WORDS = Words(("cube", "block", "box"), ("brick",))


@dataclass(frozen=True)
class Grammar:
    """The phrasings of one task's prompt.

    Args:
        templates: Sentences of the train split, each with `{color}` and `{object}`.
        held_out: Sentences of the test split; since they differ from `templates`, no test sentence occurs in train.

    Raises:
        ValueError: If a tuple is empty, a template lacks a field, or a template stands in both
        tuples.
    """

    templates: tuple[str, ...]
    held_out: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks the templates."""
        for name, templates in (("templates", self.templates), ("held_out", self.held_out)):
            if not templates:
                raise ValueError(f"{name}={templates!r} is empty; accepted: one sentence or more")
            for template in templates:
                if set(re.findall(r"{(.*?)}", template)) != {"color", "object"}:
                    raise ValueError(f"{name} holds {template!r}; accepted: fields {{color}} and {{object}}")
        if both := set(self.templates) & set(self.held_out):
            raise ValueError(f"held_out={sorted(both)} stand in templates too; accepted: others")

    def sentences(self, color: str, split: Split = "train") -> list[str]:
        """Lists all sentences about an object of this color.

        Args:
            color: One of `COLORS`.
            split: "train" for `templates` with train words, "test" for `held_out` with train and
            held-out words.

        Raises:
            ValueError: If color or split is not known.
        """
        check_choice("color", color, COLORS)
        check_choice("split", split, Split)
        templates = self.templates if split == "train" else self.held_out
        choices = product(templates, COLOR_WORDS[color].of(split), OBJECT_WORDS.of(split))
        return [template.format(color=word, object=noun) for template, word, noun in choices]

    def sample(self, rng: np.random.Generator, color: str, split: Split = "train") -> str:
        """Draws one of `sentences(color, split)` uniformly."""
        sentences = self.sentences(color, split)
        return sentences[rng.integers(len(sentences))]


def color_of(sentence: str) -> str:
    """Returns the color that a sentence names, one of `COLORS`.

    Raises:
        ValueError: If it names no color, or more than one.
    """
    said = set(re.findall(r"[a-z]+", sentence.lower()))
    named = [color for color, words in COLOR_WORDS.items() if said & set(words.of("test"))]
    if len(named) != 1:
        accepted = ", ".join(word for words in COLOR_WORDS.values() for word in words.of("test"))
        raise ValueError(f"sentence={sentence!r} names {named or 'no color'}; accepted: one of {accepted}")
    return named[0]

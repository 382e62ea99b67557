"""The language of NICOL's instructions: words for colors and objects, and the grammar of a task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from dream_env.checks import check_choice, shown
from dream_env.language import words

Split = Literal["train", "test"]

COLORS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.85, 0.08, 0.08, 1.0),
    "green": (0.05, 0.60, 0.15, 1.0),
    "blue": (0.08, 0.22, 0.88, 1.0),
    "yellow": (0.98, 0.80, 0.02, 1.0),
}
"""Colors of objects, RGBA in [0, 1], chosen to differ clearly from the white table and from each other."""


@dataclass(frozen=True)
class Words:
    """Words for one concept.

    Attributes:
        train: Words used in both splits.
        held_out: Words used in the test split only.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, split: Split) -> tuple[str, ...]:
        """Returns the words that sentences of a split use."""
        return self.train if split == "train" else self.train + self.held_out


COLOR_WORDS: dict[str, Words] = {
    "red": Words(("red", "crimson", "reddish"), ("ruby",)),
    "green": Words(("green", "greenish"), ("verdant",)),
    "blue": Words(("blue", "bluish"), ("azure",)),
    "yellow": Words(("yellow", "golden", "yellowish"), ("gold",)),
}
OBJECT_WORDS = Words(("cube", "block", "box"), ("brick",))
BAR_WORDS = Words(("bar", "rail"), ("board",))


@dataclass(frozen=True)
class Grammar:
    """The phrasings of one task's instruction.

    Args:
        templates: Templates of the train split, each with the fields `{color}` and `{object}` and, in tasks about two
            cubes, then `{other_color}` and `{other_object}`.
        held_out: Templates of the test split. They differ from `templates`, so no test sentence occurs in training.
        nouns: Words for the objects.

    Raises:
        ValueError: If a tuple is empty, a template does not have exactly these fields in this order, or a template is
            in both tuples.
    """

    templates: tuple[str, ...]
    held_out: tuple[str, ...]
    nouns: Words = OBJECT_WORDS

    def __post_init__(self) -> None:
        """Checks the templates."""
        for name, templates in (("templates", self.templates), ("held_out", self.held_out)):
            if not templates:
                raise ValueError(f"{name}={templates!r} is empty; accepted: one sentence or more")
            for template in templates:
                if re.findall(r"{(.*?)}", template) != _FIELDS[: 2 * self.cubes]:
                    accepted = " and ".join(f"{{{field}}}" for field in _FIELDS[: 2 * self.cubes])
                    raise ValueError(f"{name} holds {template!r}; accepted: fields {accepted}")
        if both := set(self.templates) & set(self.held_out):
            raise ValueError(f"held_out={sorted(both)} are in templates too; accepted: templates that are not")

    @property
    def cubes(self) -> int:
        """Number of objects that a sentence names, 1 or 2."""
        return 2 if "{other_color}" in self.templates[0] else 1

    def sentences(self, color: str, split: Split = "train", other: str | None = None) -> list[str]:
        """Lists all sentences about an object of a color.

        Args:
            color: One of `COLORS`.
            split: "train" for `templates` with train words, "test" for `held_out` with train and held-out words.
            other: Color of the second object, for a grammar that names two objects; else None.

        Raises:
            ValueError: If a color or the split is not known, or `other` is missing or not expected.
        """
        check_choice("color", color, COLORS)
        check_choice("split", split, Split)
        check_choice("other", other, [name for name in COLORS if name != color] if self.cubes == 2 else [None])
        templates = self.templates if split == "train" else self.held_out
        nouns = self.nouns.of(split)
        second = product(COLOR_WORDS[other].of(split), nouns) if other else [("", "")]
        choices = product(templates, COLOR_WORDS[color].of(split), nouns, second)
        return [
            template.format(color=word, object=noun, other_color=pair[0], other_object=pair[1])
            for template, word, noun, pair in choices
        ]

    def sample(self, rng: np.random.Generator, color: str, split: Split = "train", other: str | None = None) -> str:
        """Draws one of `sentences(color, split, other)` uniformly at random."""
        sentences = self.sentences(color, split, other)
        return sentences[rng.integers(len(sentences))]


_FIELDS = ["color", "object", "other_color", "other_object"]
"""Fields of a template, in order."""


def colors_of(sentence: str) -> tuple[str, ...]:
    """Returns the colors that a sentence names, as keys of `COLORS`, in order of first mention.

    Raises:
        ValueError: If the sentence names no color.
    """
    color_by_word = {word: color for color, each in COLOR_WORDS.items() for word in each.of("test")}
    named = tuple(dict.fromkeys(color_by_word[word] for word in words(sentence) if word in color_by_word))
    if not named:
        raise ValueError(f"sentence={shown(sentence)} names no color; accepted: one of {', '.join(color_by_word)}")
    return named


def color_of(sentence: str) -> str:
    """Returns the only color that a sentence names, a key of `COLORS`.

    Raises:
        ValueError: If the sentence names no color, or more than one.
    """
    named = colors_of(sentence)
    if len(named) > 1:
        accepted = ", ".join(word for each in COLOR_WORDS.values() for word in each.of("test"))
        raise ValueError(f"sentence={shown(sentence)} names {list(named)}; accepted: one of {accepted}")
    return named[0]

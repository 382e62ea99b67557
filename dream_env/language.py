"""Instructions: words for colors and objects, the grammar of prompts, and the sentence embedding.

A sentence is embedded as the weighted mean of static word vectors (smooth inverse frequency: Arora
et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings"), read from the table in
`assets/language`. It is a fixed function, so a policy meets a phrasing that it never trained on as
a point near those that it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import product
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

from dream_env.contract import INSTRUCTION_DIM, check_choice

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

SCALE = 0.4 * INSTRUCTION_DIM**0.5
"""Length of an embedding before clipping: 0.4 root mean square, so about 1 % of the values clip."""


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


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], np.ndarray]:
    """Loads the word table: row of each word, and weighted word vectors `(W, 64)` float32."""
    file = resources.files("dream_env.assets") / "language" / "words.safetensors"
    remake = "`python -m agents.words --wheel PATH` makes it (assets/language/README.md)"
    if not file.is_file():
        raise FileNotFoundError(f"word table {file} does not exist; {remake}")
    try:
        with resources.as_file(file) as path, safe_open(path, framework="numpy") as table:
            words = (table.metadata() or {})["words"].split()
            vectors = table.get_tensor("vectors").astype(np.float32)
            weights = table.get_tensor("weights").astype(np.float32)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"word table {file} is damaged or foreign: {error}; {remake}") from error
    return {word: row for row, word in enumerate(words)}, vectors * weights[:, None]


@lru_cache(maxsize=4096)
def embed(sentence: str) -> np.ndarray:
    """Embeds a sentence; case, punctuation, word order and unknown words do not count.

    Args:
        sentence: English text with at least one word of the table.

    Returns:
        Embedding, `(64,)` float32 in [-1, 1], read-only: the weighted mean of the word vectors,
        brought to the length `SCALE` so that a longer sentence is not a weaker one, and clipped.

    Raises:
        ValueError: If no word of the sentence is known.
        FileNotFoundError: If the word table is missing.
    """
    rows, vectors = _table()
    known = [rows[word] for word in re.findall(r"[a-z]+", sentence.lower()) if word in rows]
    if not known:
        raise ValueError(f"sentence={sentence!r} has no known word; accepted: English, e.g. 'lift the red cube'")
    return to_length(vectors[known].mean(axis=0))


def to_length(vector: np.ndarray) -> np.ndarray:
    """Brings a vector `(64,)` to the length `SCALE` and clips it to [-1, 1]; float32, read-only."""
    embedding = np.clip(SCALE * vector / np.linalg.norm(vector), -1.0, 1.0).astype(np.float32)
    embedding.setflags(write=False)
    return embedding


def embedder(model: Any) -> Callable[[str], np.ndarray]:
    """Returns what embeds instructions beside a world model: its own `instruction` if it has one, else `embed`."""
    return getattr(model, "instruction", embed)

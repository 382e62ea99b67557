"""Sentences as vectors.

A sentence is embedded as the weighted mean of static word vectors (smooth inverse frequency: Arora
et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings"), read from the table in
`assets/language`. It is a fixed function, so a policy meets a phrasing that it never trained on as
a point near those that it did.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

INSTRUCTION_DIM = 64
"""Length of a sentence embedding."""

WORDS = 16
"""Words of a sentence that `word_rows` tells apart."""
UNKNOWN_ROWS = 64
"""Rows that words share which are not in the table, each by a checksum of its letters."""
FADING = 1.5
"""How much more the first word of a sentence counts than the last one in `embed_in_order`, as a power of e."""
SCALE = 0.4 * INSTRUCTION_DIM**0.5
"""Length of an embedding before clipping: 0.4 root mean square, so about 1 % of the values clip."""


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], np.ndarray]:
    """Loads the word table: row of each word, and weighted word vectors `(W, 64)` float32."""
    file = resources.files("dream_env.assets") / "language" / "words.safetensors"
    remake = "`python -m dream_env.assets.language.make_words --wheel PATH` makes it (assets/language/README.md)"
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


def words(sentence: str) -> list[str]:
    """Returns the words of a sentence in lower case; marks that are not seen, as of writing direction, do not count."""
    text = "".join(char for char in unicodedata.normalize("NFKC", sentence) if unicodedata.category(char) != "Cf")
    return re.findall(r"[a-z]+", text.lower())


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
    return to_length(_known(sentence).mean(axis=0))


@lru_cache(maxsize=4096)
def embed_in_order(sentence: str) -> np.ndarray:
    """Embeds a sentence as `embed` does, but early words count more: what is put on what is said by their order.

    Raises:
        ValueError: As `embed`.
        FileNotFoundError: As `embed`.
    """
    known = _known(sentence)
    weights = np.exp(-FADING * np.arange(len(known)) / max(1, len(known) - 1))
    return to_length(weights @ known / weights.sum())


def _known(sentence: str) -> np.ndarray:
    """Returns the weighted vectors of the words that the table has, `(n, 64)`; ValueError if it has none."""
    rows, vectors = _table()
    known = [rows[word] for word in words(sentence) if word in rows]
    if not known:
        raise ValueError(f"sentence={sentence!r} has no known word; accepted: English")
    return vectors[known]


@lru_cache(maxsize=4096)
def word_rows(sentence: str) -> np.ndarray:
    """Tells the words of a sentence in their order, for policies that read them one by one.

    Args:
        sentence: Any text; words after the first `WORDS` do not count.

    Returns:
        Rows of `word_vectors`, `(WORDS,)` float32, as all parts of observations are; 0 where there is no word.
    """
    rows, vectors = _table()
    found = [rows.get(word, len(vectors) + zlib.crc32(word.encode()) % UNKNOWN_ROWS) for word in words(sentence)]
    result = np.zeros(WORDS, np.float32)
    result[: len(found[:WORDS])] = 1 + np.array(found[:WORDS], np.float32)
    result.setflags(write=False)
    return result


@lru_cache(maxsize=1)
def word_vectors() -> np.ndarray:
    """Returns a vector of root mean square 1 for each row of `word_rows`, `(W, 64)` float32; that of no word is 0."""
    _, vectors = _table()
    unknown = np.random.default_rng(0).standard_normal((UNKNOWN_ROWS, INSTRUCTION_DIM))
    found = np.concatenate([vectors, unknown])
    found = found * INSTRUCTION_DIM**0.5 / np.linalg.norm(found, axis=1, keepdims=True)
    return np.concatenate([np.zeros((1, INSTRUCTION_DIM)), found]).astype(np.float32)


def to_length(vector: np.ndarray) -> np.ndarray:
    """Brings a vector `(64,)` to the length `SCALE` and clips it to [-1, 1]; float32, read-only."""
    embedding = np.clip(SCALE * vector / np.linalg.norm(vector), -1.0, 1.0).astype(np.float32)
    embedding.setflags(write=False)
    return embedding


def embedder(model: Any) -> Callable[[str], np.ndarray]:
    """Returns what embeds instructions beside a world model: its own `instruction` if it has one, else `embed`."""
    return getattr(model, "instruction", embed)


def similarity(sentence: str, known: tuple[str, ...], model: Any = None) -> np.ndarray:
    """Returns the cosine of a sentence's embedding with those of others, `(S,)`.

    Args:
        sentence: English.
        known: The other sentences.
        model: World model whose embedding of sentences counts; None for `embed`.
    """
    words = embedder(model)
    vectors = np.stack([words(one) for one in (sentence, *known)])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[1:] @ vectors[0]

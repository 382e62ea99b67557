"""Embeddings of language instructions.

A sentence is embedded as the weighted mean of static word vectors (smooth inverse frequency: Arora et al. 2017, "A
simple but tough-to-beat baseline for sentence embeddings") from the table in `assets/language`. The embedding is fixed,
not trained, so a phrasing that a policy was not trained on lies near similar phrasings that it was trained on.

Words that are not in the table are ignored, except in worlds that were recorded with such words (names of things, other
languages; `WorldSpec.unknown_words`): there each one has a fixed random vector, so that sentences differ if they do.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import resources
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

INSTRUCTION_DIM = 64
"""Length of a sentence embedding."""

WORDS = 16
"""Maximum number of words of a sentence in `word_rows`."""
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+")
"""A word: letters of any script, or one Chinese character."""
UNKNOWN_ROWS = 64
"""Number of rows shared by all words that are not in the table; a checksum of the word selects its row."""
FADING = 1.5
"""In `embed_in_order`, the first word of a sentence has e^FADING times the weight of the last one."""
SCALE = 0.4 * INSTRUCTION_DIM**0.5
"""Norm of an embedding before clipping: a root mean square of 0.4, so that about 1 % of the values are clipped."""


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], np.ndarray]:
    """Loads the word table: the row of each word, and the weighted word vectors `(W, 64)` float32."""
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
    """Returns the words of a sentence in lower case; invisible format characters are removed first."""
    text = "".join(char for char in unicodedata.normalize("NFKC", sentence) if unicodedata.category(char) != "Cf")
    return WORD.findall(text.lower())


@lru_cache(maxsize=4096)
def embed(sentence: str, unknown: bool = False) -> np.ndarray:
    """Embeds a sentence; case, punctuation and word order are ignored.

    Args:
        sentence: Text with at least one word that is in the table, or any word if `unknown`.
        unknown: Whether words that are not in the table have random vectors; otherwise they are ignored.

    Returns:
        Embedding, `(64,)` float32 in [-1, 1], read-only: the weighted mean of the word vectors, scaled to the norm
        `SCALE` so that the norm does not shrink with the length of the sentence, and clipped.

    Raises:
        ValueError: If the sentence has no such word.
        FileNotFoundError: If the word table is missing.
    """
    return to_length(_vectors(sentence, unknown).mean(axis=0))


@lru_cache(maxsize=4096)
def embed_in_order(sentence: str, unknown: bool = False) -> np.ndarray:
    """Embeds a sentence like `embed`, but with larger weights for earlier words.

    Word order tells, for example, which object is to be put on which.

    Raises:
        ValueError: As in `embed`.
        FileNotFoundError: As in `embed`.
    """
    found = _vectors(sentence, unknown)
    weights = np.exp(-FADING * np.arange(len(found)) / max(1, len(found) - 1))
    return to_length(weights @ found / weights.sum())


def _vectors(sentence: str, unknown: bool) -> np.ndarray:
    """Returns the weighted vectors of the n words that count, `(n, 64)`; ValueError if n is 0."""
    rows, vectors = _table()
    found = [
        vectors[rows[word]] if word in rows else _random(word) for word in words(sentence) if unknown or word in rows
    ]
    if not found:
        accepted = "a sentence" if unknown else "English, or words of the data that the world model was fitted to"
        raise ValueError(f"sentence={sentence!r} has no known word; accepted: {accepted}")
    return np.stack(found)


def _random(word: str) -> np.ndarray:
    """Returns a vector of unit length that only depends on the word, `(64,)` float32; rare words weigh as much."""
    vector = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(INSTRUCTION_DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def has_unknown(sentence: str) -> bool:
    """Returns whether a sentence has a word that is not in the table."""
    return not _table()[0].keys() >= {*words(sentence)}


@lru_cache(maxsize=4096)
def word_rows(sentence: str) -> np.ndarray:
    """Returns the words of a sentence in order as row indices, for policies that read them one by one.

    Args:
        sentence: Any text; words after the first `WORDS` are dropped.

    Returns:
        Rows of `word_vectors`, `(WORDS,)`, padded with 0. The type is float32, as in all vectors of observations.
    """
    rows, vectors = _table()
    found = [rows.get(word, len(vectors) + zlib.crc32(word.encode()) % UNKNOWN_ROWS) for word in words(sentence)]
    result = np.zeros(WORDS, np.float32)
    result[: len(found[:WORDS])] = 1 + np.array(found[:WORDS], np.float32)
    result.setflags(write=False)
    return result


@lru_cache(maxsize=1)
def word_vectors() -> np.ndarray:
    """Returns the vectors that `word_rows` indexes, `(W, 64)` float32, root mean square 1; row 0 (padding) is zero."""
    _, vectors = _table()
    unknown = np.random.default_rng(0).standard_normal((UNKNOWN_ROWS, INSTRUCTION_DIM))
    found = np.concatenate([vectors, unknown])
    found = found * INSTRUCTION_DIM**0.5 / np.linalg.norm(found, axis=1, keepdims=True)
    return np.concatenate([np.zeros((1, INSTRUCTION_DIM)), found]).astype(np.float32)


def to_length(vector: np.ndarray) -> np.ndarray:
    """Scales a vector `(64,)` to the norm `SCALE` and clips it to [-1, 1]; float32, read-only."""
    embedding = np.clip(SCALE * vector / np.linalg.norm(vector), -1.0, 1.0).astype(np.float32)
    embedding.setflags(write=False)
    return embedding


def embedder(model: Any) -> Callable[[str], np.ndarray]:
    """Returns the function that embeds instructions for a model: its method `instruction` if present, else `embed`."""
    unknown = getattr(getattr(model, "spec", None), "unknown_words", False)
    return getattr(model, "instruction", partial(embed, unknown=True) if unknown else embed)


def similarity(sentence: str, known: tuple[str, ...], model: Any = None) -> np.ndarray:
    """Returns the cosine similarity between the embedding of a sentence and the embeddings of others, `(S,)`.

    Args:
        sentence: English text.
        known: The S other sentences.
        model: World model whose sentence embedding is used; None for `embed`.
    """
    function = embedder(model)
    vectors = np.stack([function(each) for each in (sentence, *known)])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[1:] @ vectors[0]

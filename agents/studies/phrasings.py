"""Measures how far phrasings that no training saw are understood: `python -m agents.studies.phrasings`.

Every sentence of the test split (other templates, and other words for colors and objects too) asks for the nearest
sentence of the train split, by the cosine of their embeddings: does it mean the same task and the same color? A policy
that knows what to do with the one will most likely do that with the other. Beside the package's word vectors stands a
baseline that knows no meanings, and a pretrained text encoder if there is one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.nicol.sentences import sentences
from dream_env.files import write_json
from dream_env.language import INSTRUCTION_DIM, embed, to_length
from dream_env.nicol.language import COLOR_WORDS, OBJECT_WORDS

NEW_WORDS = {word for words in (*COLOR_WORDS.values(), OBJECT_WORDS) for word in words.held_out}
"""Words of the test split only."""
_HASHES = 10
"""Hash functions that the baseline is averaged over."""


@dataclass(frozen=True)
class Arguments:
    """Measures how far sentence embeddings understand phrasings that no training saw."""

    out: Path = Path("results/language.json")
    """Where the figures go."""
    text: str | None = None
    """Folder of a pretrained text encoder to measure as well (needs the extra `vla`)."""


def hashed(salt: int) -> Callable[[str], np.ndarray]:
    """Returns an embedding that only counts words: each has one of 64 places and a sign, at random.

    This is feature hashing (Weinberger et al. 2009).
    """

    def count(sentence: str) -> np.ndarray:
        vector = np.zeros(INSTRUCTION_DIM, np.float32)
        for word in re.findall(r"[a-z]+", sentence.lower()):
            number = int.from_bytes(hashlib.sha256(f"{salt} {word}".encode()).digest()[:8], "big")
            vector[number // 2 % INSTRUCTION_DIM] += 1 - 2 * (number % 2)
        return to_length(vector + 1e-6)

    return count


def understood(function: Callable[[str], np.ndarray]) -> dict[str, dict[str, float]]:
    """Compares every test sentence with the train sentence that an embedding puts nearest.

    Returns:
        For `known` words only, sentences with a `new` one, and `all`: the number of `sentences`, and the shares whose
        nearest sentence has the same `color`, the same `task`, and `both`.
    """
    train, test = sentences("train"), sentences("test")
    one, other = (np.stack([function(s.words) for s in part]) for part in (test, train))
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    nearest = [train[i] for i in (one @ other.T).argmax(1)]
    same = np.array([(a.color == b.color, a.task == b.task) for a, b in zip(test, nearest, strict=True)])
    new = np.array([bool(NEW_WORDS & set(s.words.split())) for s in test])
    return {
        name: {
            "sentences": int(rows.sum()),
            "color": float(same[rows, 0].mean()),
            "task": float(same[rows, 1].mean()),
            "both": float(same[rows].all(1).mean()),
        }
        for name, rows in (("known", ~new), ("new", new), ("all", np.ones_like(new)))
    }


def compare_embeddings(text: str | None = None) -> dict[str, Any]:
    """Measures every embedding; the baseline's figures are means over its hash functions."""
    runs = [understood(hashed(salt)) for salt in range(_HASHES)]
    mean = {
        name: {key: float(np.mean([run[name][key] for run in runs])) for key in row} for name, row in runs[0].items()
    }
    report = {"word vectors": understood(embed), "hashed bag of words": mean}
    if text:
        from dream_env.world_models.pretrained import SentenceProjection

        projection = SentenceProjection(text)
        projection.fit(s.words for s in sentences("train"))
        report[Path(text).name] = understood(projection.embed)
    return report


def table(report: dict[str, Any]) -> str:
    """Renders the report as Markdown."""
    rows = [
        [name, words, f"{row['sentences']:.0f}", *(f"{100 * row[key]:.1f} %" for key in ("color", "task", "both"))]
        for name, part in report.items()
        for words, row in part.items()
    ]
    return markdown_table(["embedding", "words", "sentences", "same color", "same task", "both"], rows) + "\n"


def main(args: Arguments) -> None:
    """Runs the command."""
    report = compare_embeddings(args.text)
    write_json(args.out, report)
    print(table(report))
    print(f"Figures: {args.out.resolve()}")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("studies.phrasings")

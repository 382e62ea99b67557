"""Measures how well sentence embeddings handle held-out phrasings: `python -m agents.studies.phrasings`.

For every sentence of the test split (other templates, and also other words for colors and objects), the study finds the
nearest sentence of the train split by the cosine similarity of their embeddings, and checks whether both mean the same
task and the same color. If they do, a policy that follows the training sentence will most likely follow the test
sentence as well. The package's word vectors are compared with a baseline without meanings (a hashed bag of words) and,
if given, a pretrained text encoder.
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
"""Words that occur in the test split only."""
_HASHES = 10
"""Hash functions that the baseline is averaged over."""


@dataclass(frozen=True)
class Arguments:
    """Measures how well sentence embeddings handle held-out phrasings."""

    out: Path = Path("results/language.json")
    """JSON file of the figures."""
    text: str | None = None
    """Folder of a pretrained text encoder to measure as well. Needs the extra `vla`."""


def hashed(salt: int) -> Callable[[str], np.ndarray]:
    """Returns an embedding function that only counts words: each word has a random entry (of 64) and a random sign.

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
    """Compares every test sentence with the train sentence whose embedding is nearest.

    Returns:
        For sentences of `known` words only, sentences with a `new` word, and `all`: the number of `sentences`, and the
        fractions whose nearest sentence has the same `color`, the same `task`, and `both`.
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

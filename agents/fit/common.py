"""What the fits of `slots`, `dynamics`, `vmc` and `unified` begin and end with."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.fit.trainer import Run
from dream_env.agents.run.config import check_out
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.pace import advice
from dream_env.files import write_json
from dream_env.initial_states import FILE, InitialStates
from dream_env.language import has_unknown, words
from dream_env.world_models import checkpoint


def begin(args: Any, kind: str, episodes: EpisodeDataset, *inputs: Any) -> tuple[float, EpisodeDataset]:
    """Checks the output folder and the episodes, and sets torch's seed and threads.

    Args:
        args: Arguments of a fit, with `out`, `data`, `held_out`, `seed` and `threads`.
        kind: Kind of the world model.
        episodes: The recorded episodes.
        *inputs: Further folders that the fit reads, which cannot be the output folder.

    Returns:
        The time at which the fit began, for `minutes`, and the episodes, see `with_words`.

    Raises:
        ValueError: If there are fewer than two episodes, `held_out` is not a fraction, an instruction has no words, or
            `args.out` contains something else.
    """
    check_out(args.out, kind, *args.data, *inputs)
    if len(episodes) < 2:
        raise ValueError(f"data holds {len(episodes)} episodes; accepted: at least 2")
    if not 0 < args.held_out < 1:
        raise ValueError(f"held_out={args.held_out}; accepted: between 0 and 1")
    if episodes.spec.instructions:
        episodes = with_words(episodes)
    vectors = [np.asarray(episodes.observation[name]) for name in episodes.spec.vectors]
    numbers = np.repeat(np.arange(len(episodes)), episodes.lengths + 1)
    if note := advice(episodes.spec.control_hz, vectors, numbers, str(next(iter(args.data), "FOLDER"))):
        print(note)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    return time.monotonic(), episodes


def with_words(episodes: EpisodeDataset) -> EpisodeDataset:
    """Returns the episodes with a spec that says whether their instructions have words that are not in the word table.

    Raises:
        ValueError: If an instruction has no words; dreams could not begin with it.
    """
    sentences, first = np.unique(episodes.instruction, return_index=True)
    for sentence, i in zip(sentences.tolist(), first.tolist(), strict=True):
        if not words(sentence):
            raise ValueError(f"data: episode {i} has the instruction {sentence!r}; accepted: words")
    unknown = any(map(has_unknown, sentences.tolist()))
    return replace(episodes, spec=replace(episodes.spec, unknown_words=unknown))


def split(count: int, held_out: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of held-out and of training episodes, at least one of each, in random order."""
    order = rng.permutation(count)
    held = min(max(1, round(held_out * count)), count - 1)
    return order[:held], order[held:]


def split_from(
    init: str | Path | None, episodes: EpisodeDataset, held_out: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `split` does, except that episodes which were held out from the model `init` stay held out.

    If the episodes contain any of these, they are the held-out ones.
    """
    held, others = split(len(episodes), held_out, rng)
    if init is None:
        return held, others
    order = np.concatenate([held, others])
    known = np.isin(episodes.seed[order], figures_of(checkpoint.resolve(init)).get("held_out_seeds", []))
    return (order[known], order[~known]) if known.any() and not known.all() else (held, others)


def figures_of(folder: Path) -> dict[str, Any]:
    """Returns the contents of a checkpoint's `metrics.json`; {} if there is none."""
    file = folder / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def initial_states(data: EpisodeDataset, each: int = 4, seed: int = 0, rows: np.ndarray | None = None) -> InitialStates:
    """Returns initial states from episodes: the first frame of each, and random later frames except the last.

    Only these frames are read, since the pictures of whole episodes may not fit into memory.

    Args:
        data: Recorded episodes.
        each: Number of states per episode; short episodes have fewer.
        seed: Seed of the choice.
        rows: Indices of the episodes; None for all.
    """
    rng, rows = np.random.default_rng(seed), np.arange(len(data)) if rows is None else rows
    others = [np.sort(rng.permutation(np.arange(1, length))[: max(0, each - 1)]) for length in data.lengths[rows]]
    step = np.concatenate([[0, *later] for later in others]).astype(np.int64)
    place = np.repeat(np.arange(len(rows)), [1 + len(later) for later in others])
    episode = rows[place]
    frames = data.offsets[episode] + step
    return InitialStates(
        observation={name: np.asarray(values[frames]) for name, values in data.observation.items()},
        goal_observation={name: np.asarray(values[rows]) for name, values in data.goal.items()},
        goal=place if data.goal else np.zeros_like(place),
        task=data.task[episode],
        instruction=data.instruction[episode],
        step=step,
    )


def start_rows(episodes: int | np.ndarray, args: Any) -> np.ndarray:
    """Draws the episodes whose initial states are saved: as many as give at most `args.most_starts`.

    Args:
        episodes: Number of episodes to draw from, or their indices.
        args: Arguments of a fit, with `starts`, `most_starts` and `seed`.

    Returns:
        Their indices, sorted.
    """
    return np.sort(np.random.default_rng(args.seed).permutation(episodes)[: args.most_starts // args.starts])


def minutes(run: Run, began: float) -> dict[str, Any]:
    """Returns the minutes of every stage, and of the fit since it `began`."""
    return {
        "minutes": {name: round(seconds / 60, 2) for name, seconds in run.seconds.items()},
        "wall_minutes": round((time.monotonic() - began) / 60, 2),
    }


def finish(model: Any, args: Any, figures: dict[str, Any], card: str, starts: InitialStates) -> None:
    """Saves a fitted model with its card, figures (`metrics.json`) and initial states to `args.out`.

    The measured `disagreement_quantile`, if there is one, becomes the threshold of `max_disagreement="calibrated"`.
    """
    if "disagreement_quantile" in figures:
        model.config = replace(model.config, disagreement_threshold=figures["disagreement_quantile"])
    checkpoint.save(model, args.out, card)
    write_json(args.out / "metrics.json", figures)
    starts.save(args.out / FILE)

"""Fingerprint of a world model's encoder, to check that a policy runs with the encoder it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.language import embedder
from dream_env.world_models import checkpoint


@torch.no_grad()
def fingerprint(model: Any) -> tuple[float, ...]:
    """Returns a few numbers computed from a world model's embeddings of random inputs and of a sentence.

    World models with the same encoder and the same sentence embeddings have the same fingerprint, up to numerical
    differences between machines and devices. A hash of the weights would not allow such differences.
    """
    rng, spec, seen = np.random.default_rng(0), model.spec, {}
    for name in spec.pictures:
        noise = rng.integers(0, 256, (4, *spec.observation[name].shape)).astype(np.uint8)
        seen[name] = torch.from_numpy(noise).to(model.device)
    if not spec.pictures:
        for name in spec.vectors:
            noise = rng.standard_normal((4, *spec.observation[name].shape)).astype(np.float32)
            seen[name] = torch.from_numpy(noise).to(model.device)
    sentence = embedder(model)("lift the red cube") if spec.instructions else None
    if sentence is not None:  # some embeddings depend on the sentence
        seen["instruction"] = torch.from_numpy(np.tile(sentence, (4, 1))).to(model.device)
    found = [(8, model.embedding(model.encode(seen)).flatten().cpu().numpy())]
    if sentence is not None:
        found.append((4, sentence))
    parts = [rng.standard_normal((count, len(x))) @ x / len(x) ** 0.5 for count, x in found]
    return tuple(np.concatenate(parts).round(3).tolist())


@lru_cache(maxsize=8)
def _of(folder: Path, written: int) -> tuple[float, ...]:
    return fingerprint(checkpoint.load(folder))


def same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Returns whether two fingerprints are of the same encoder."""
    return len(one) == len(other) and np.allclose(one, other, rtol=0.02, atol=0.05)


def check(known: tuple[float, ...], learned: str, world_model: str) -> None:
    """Checks that a world model has the encoder and the sentence embeddings that a policy was trained with.

    Args:
        known: Fingerprint of the world model at the time when the policy was trained.
        learned: Name or folder of that world model.
        world_model: Name or folder of the world model to run the policy with.

    Raises:
        ValueError: If the encoder or the sentence embeddings differ.
    """
    grounded = checkpoint.load(world_model).kind == "state_grounded"  # loading reports what is missing
    folder = checkpoint.resolve(world_model)
    found = _of(folder, (folder / checkpoint.WEIGHTS).stat().st_mtime_ns)  # a refit may have replaced the file
    if not same(found, known):
        raise ValueError(
            f"world_model={world_model!r}: its encoder (fingerprint {found[:2]}, ...) is not the one that this policy "
            f"was trained with, that of {learned!r} at that time (fingerprint {known[:2]}, ...); accepted: a world "
            "model with that encoder, or a policy cloned with this world model "
            f"(`python -m agents.clone{'' if grounded else ' --policy transformer'} --world-model {world_model}`)"
        )

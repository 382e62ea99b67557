"""Whether a world model lets a policy see what it learned from: a fingerprint of its encoder and its words."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.language import embedder
from dream_env.world_models import checkpoint


@torch.no_grad()
def fingerprint(model: Any) -> tuple[float, ...]:
    """Boils down what a policy perceives through a world model: some noise and a sentence.

    The numbers are the same for world models that share encoder and words, up to what another machine or device
    makes of them, which a digest of the bytes would not survive.
    """
    rng, spec, seen = np.random.default_rng(0), model.spec, {}
    for name in spec.pictures:
        noise = rng.integers(0, 256, (4, *spec.observation[name].shape)).astype(np.uint8)
        seen[name] = torch.from_numpy(noise).to(model.device)
    if not spec.pictures:
        for name in spec.vectors:
            noise = rng.standard_normal((4, *spec.observation[name].shape)).astype(np.float32)
            seen[name] = torch.from_numpy(noise).to(model.device)
    told = embedder(model)("lift the red cube") if spec.instructions else None
    if told is not None:  # some embeddings are those of a sentence
        seen["instruction"] = torch.from_numpy(np.tile(told, (4, 1))).to(model.device)
    found = [(8, model.embedding(model.encode(seen)).flatten().cpu().numpy())]
    if told is not None:
        found.append((4, told))
    parts = [rng.standard_normal((count, len(x))) @ x / len(x) ** 0.5 for count, x in found]
    return tuple(np.concatenate(parts).round(3).tolist())


@lru_cache(maxsize=8)
def _of(folder: Path, written: int) -> tuple[float, ...]:
    return fingerprint(checkpoint.load(folder))


def check(known: tuple[float, ...], learned: str, world_model: str) -> None:
    """Refuses a world model through which a policy would not see, or be told, what it learned from.

    Args:
        known: Fingerprint of the world model that it learned through, as it was then.
        learned: Name or folder of that one.
        world_model: Name or folder of the one that it is to be run with.

    Raises:
        ValueError: If it has another encoder or other words.
    """
    checkpoint.load(world_model)  # tells what is missing
    folder = checkpoint.resolve(world_model)
    found = _of(folder, (folder / checkpoint.WEIGHTS).stat().st_mtime_ns)  # a refit may have written it anew
    if len(found) != len(known) or not np.allclose(found, known, rtol=0.02, atol=0.05):
        raise ValueError(
            f"world_model={world_model!r}: its encoder (fingerprint {found[:2]}, ...) is not the one that this policy "
            f"learned through, that of {learned!r} as it was then (fingerprint {known[:2]}, ...); accepted: a world "
            "model with that encoder, or a policy cloned through this one "
            f"(`python -m agents.clone --world-model {world_model}`)"
        )

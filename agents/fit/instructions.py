"""Noise on instruction embeddings, so that networks learn from a few phrasings to follow others."""

from __future__ import annotations

import torch
from torch import Tensor


def with_noise(instruction: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Adds Gaussian noise to instruction embeddings; their length stays the same.

    Phrasings of one instruction differ in the words around the few that matter. The noise hides single words in a
    similar way, so a network comes to rely on what separates the instructions most clearly.

    Args:
        instruction: Sentence embeddings of `dream_env.language`, `(..., I)`.
        strength: Largest length of the noise, relative to that of the embedding; each row draws a length up to it.
        generator: Source of the noise.
    """
    noise = torch.randn(instruction.shape, generator=generator)
    length = instruction.norm(dim=-1, keepdim=True)
    much = strength * torch.rand(length.shape, generator=generator)
    noisy = instruction + much * length * noise / noise.norm(dim=-1, keepdim=True)
    return (noisy * length / noisy.norm(dim=-1, keepdim=True).clamp(min=1e-6)).clamp(-1, 1)

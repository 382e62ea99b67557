"""Noise on instructions, in the fit of slots: other phrasings have nearly the same embedding."""

import blocks
import numpy as np
import torch
from test_slots import fitted, observed

from dream_env.agents.fit.instructions import with_noise
from dream_env.language import embed
from dream_env.world_models import checkpoint


def test_noise_on_instructions_hides_words_and_keeps_length_and_nothing():
    told = torch.from_numpy(np.stack([embed("push the red block"), embed("push the blue block"), np.zeros(64, "f")]))
    told = told.repeat(500, 1)
    noisy = with_noise(told, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(noisy[2::3], told[2::3]), "no instruction stays no instruction"
    assert noisy.abs().max() <= 1 and ((noisy.norm(dim=1) - told.norm(dim=1))[:2].abs() < 0.1).all()
    nearer = (noisy[0::3] - told[0]).norm(dim=1) < (noisy[0::3] - told[1]).norm(dim=1)
    assert nearer.float().mean() > 0.95 and (noisy[0::3] - told[0]).norm(dim=1).mean() > 0.5
    assert torch.allclose(with_noise(told, 0.0, torch.Generator()), told, atol=1e-6)


def test_phrasings_that_were_not_recorded_have_nearly_the_embedding_of_those_that_were(tmp_path):
    data = blocks.dataset(80)
    checkpoint.save(fitted(tmp_path / "first", data).model, tmp_path / "base", "card")
    rows, off = np.arange(20), {}
    for strength in (0.0, 1.0):
        how = {"init": str(tmp_path / "base"), "updates": 0, "own_updates": 0, "distance_updates": 300}
        again = fitted(tmp_path / str(strength), data, **how, instruction_noise=strength).model
        seen = observed(data, rows)
        said = [str(text).replace("push the", "please shove this") for text in data.instruction[rows]]
        other = seen | {"instruction": torch.from_numpy(np.stack([embed(text) for text in said]))}
        one, two = (again.embedding(again.encode(each)) for each in (seen, other))
        off[strength] = (one - two).square().sum(1).mean() / (one - one.mean(0)).square().sum(1).mean()
    assert off[1.0] < 0.5 * off[0.0]

"""Muon: which weights it trains, and how."""

from __future__ import annotations

import torch
from torch import nn

from dream_env.agents.fit.muon import Muon, optimizers, orthogonalize


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((8, 30), (30, 8), (12, 12)):
        matrix = torch.randn(shape)
        done = orthogonalize(matrix)
        values = torch.linalg.svdvals(done)
        assert done.shape == matrix.shape and values.min() > 0.3 and values.max() < 1.3
        # The directions stay what they were.
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert ((left.T @ done @ right.T).diagonal() > 0.3).all()


def test_matrices_and_kernels_go_to_muon_and_all_else_to_adamw() -> None:
    module = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Linear(16, 16), nn.Linear(16, 1), nn.LayerNorm(16))
    adamw, muon = optimizers(module, 1e-2)
    shapes = {type(each).__name__: [w.shape for g in each.param_groups for w in g["params"]] for each in (adamw, muon)}
    assert shapes["Muon"] == [(16, 16, 3, 3), (16, 16)]
    assert shapes["AdamW"] == [(16,), (16,), (1, 16), (1,), (16,), (16,)]
    assert [type(each).__name__ for each in optimizers(nn.LayerNorm(4), 1e-2)] == ["AdamW"]
    assert [type(each).__name__ for each in optimizers(nn.Linear(8, 8, bias=False), 1e-2)] == ["Muon"]
    assert [type(each).__name__ for each in optimizers(module, 1e-2, muon=False)] == ["AdamW"]


def test_a_step_is_as_large_as_adamws() -> None:
    """An AdamW step changes each weight by about 0.2 learning rates (Liu et al. 2025)."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 96))
    weight.grad = 1e-6 * torch.randn_like(weight)  # the size of the gradient does not matter
    Muon([weight], lr=0.1).step()
    assert 0.01 < weight.square().mean().sqrt() < 0.03
    assert (weight * weight.grad).sum() < 0


def test_it_solves_what_its_momentum_remembers() -> None:
    torch.manual_seed(0)
    target, layer = torch.randn(16, 16), nn.Linear(16, 16, bias=False)
    trained = optimizers(layer, 0.02)
    first = None
    for step in range(200):
        for each in trained:
            each.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        loss = (layer.weight - target).square().mean()
        first = loss.item() if first is None else first
        layer.zero_grad()
        loss.backward()
        for each in trained:
            each.step()
    assert loss.item() < 0.02 * first

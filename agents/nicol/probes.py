"""Probes that read positions and grasps from latent states, to report prediction errors in centimeters."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.nicol.constants import PROPRIO_NAMES
from dream_env.nicol.language import COLORS
from dream_env.progress import progress_bar


class Reading(NamedTuple):
    """A probe's output for a batch of states.

    Attributes:
        cubes: x, y, z of the cube of each color, `(B, colors, 3)` in cm; meaningless for a color not on the table.
        held: Logit that the hand holds the cube of each color off the table, `(B, colors)`.
        hand: x, y, z of the grasp point, `(B, 3)` in cm.
    """

    cubes: Tensor
    held: Tensor
    hand: Tensor


class Probe(nn.Module):
    """Estimates the positions of the cubes and the hand from a token map.

    A convolution combines each token with its neighbors. Each color has its own query, which attends over the map and
    returns the attended position (a soft-argmax: Levine et al. 2016, section 4.3) and the attended features. On encoded
    images of the first default world model, its error for a resting cube is 0.25 cm, while that of a plain MLP of three
    times the size is 0.8 cm, so the errors measure the state and not the probe.

    Args:
        channels: Channels C of one token.
        tokens: Number of tokens. A square number is treated as a map in row-major order, any other as a sequence.
        width: Channels of the convolution.
        hidden: Hidden width of the heads.
    """

    def __init__(self, channels: int, tokens: int = 64, width: int = 64, hidden: int = 128) -> None:
        super().__init__()
        width = max(width, channels)  # so that the first layer can preserve a state that is a single vector
        side = math.isqrt(tokens)
        self.grid = (side, side) if side**2 == tokens else (1, tokens)
        proprio, colors = len(PROPRIO_NAMES), len(COLORS)
        axes = [torch.linspace(-1, 1, length) for length in self.grid]
        self.position: Tensor
        self.register_buffer("position", torch.cartesian_prod(*axes), persistent=False)
        self.look = nn.Conv2d(channels + 2 + proprio, width, 3, padding=1)
        self.queries = nn.Linear(width, colors)
        self.cube = nn.Sequential(nn.Linear(width + 2 + proprio, hidden), nn.SiLU(), nn.Linear(hidden, 4 * colors))
        self.hand = nn.Sequential(nn.Linear(channels * tokens + proprio, hidden), nn.SiLU(), nn.Linear(hidden, 3))
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", torch.zeros(2, 3))
        self.register_buffer("scale", torch.ones(2, 3))

    def forward(self, tokens: Tensor, proprio: Tensor) -> Reading:
        """Maps tokens `(B, T, C)` and set-points `(B, 4)` to a reading."""
        rows, length = tokens.shape[:2]
        place = self.position.expand(rows, -1, -1)
        parts = torch.cat([tokens, place, proprio[:, None].expand(-1, length, -1)], dim=-1)
        features = self.look(parts.transpose(1, 2).unflatten(2, self.grid))
        features = F.silu(features).flatten(2).transpose(1, 2)
        weights = self.queries(features).softmax(dim=1).transpose(1, 2)
        colors = weights.shape[1]
        found = torch.cat([weights @ features, weights @ place, proprio[:, None].expand(-1, colors, -1)], dim=-1)
        index = torch.arange(colors)
        each = self.cube(found).unflatten(-1, (colors, 4))[:, index, index]
        hand = self.hand(torch.cat([tokens.flatten(1), proprio], dim=1))
        return Reading(
            self.center[0] + self.scale[0] * each[..., :3], each[..., 3], self.center[1] + self.scale[1] * hand
        )


def fit_probe(train: EncodedDataset, updates: int = 3000, batch: int = 128, rate: float = 3e-3, seed: int = 0) -> Probe:
    """Trains a probe on encoded images only.

    Predicted states are then read in the same way as encoded images. A probe that is also trained on predicted states
    with true positions could learn systematic errors of the world model and correct them. Its error for moved cubes is
    only 0.2 cm smaller, so training on encoded images only costs little.

    Args:
        train: Episodes with true positions.
        updates: Number of updates.
        batch: Number of frames per update.
        rate: Peak learning rate.
        seed: Seed of weights and batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(train.tokens.shape[-1], train.tokens.shape[-2])
    held = train.held.float()
    for i, place in enumerate((train.cubes[train.present], train.hand.flatten(0, 1))):
        probe.center[i], probe.scale[i] = place.mean(0), place.std(0) + 1e-3
    optimizer = torch.optim.AdamW(probe.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, updates + 1, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in progress_bar(range(updates), desc="probe", unit="update"):
        n = torch.randint(len(train.tokens), (batch,), generator=generator)
        t = torch.randint(train.tokens.shape[1], (batch,), generator=generator)
        read, there = probe(train.tokens[n, t].float(), train.proprio[n, t]), train.present[n, t]
        loss = (
            _error((read.cubes - train.cubes[n, t])[there], probe.scale[0])
            + _error(read.hand - train.hand[n, t], probe.scale[1])
            + 0.1 * F.binary_cross_entropy_with_logits(read.held[there], held[n, t][there])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe.eval()


def _error(difference: Tensor, scale: Tensor) -> Tensor:
    """Returns the Huber error in units of the standard deviation, linear above 0.1.

    It gives weight to small errors of resting cubes as well as to large errors of lost ones.
    """
    scaled = difference / scale
    return F.smooth_l1_loss(scaled, torch.zeros_like(scaled), beta=0.1)


@torch.inference_mode()
def read(probe: Probe, tokens: Tensor, proprio: Tensor, chunk: int = 512) -> Reading:
    """Applies a probe to any number of states, tokens `(..., T, C)` and set-points `(..., 4)`, in chunks."""
    leading = tokens.shape[:-2]
    rows = zip(tokens.flatten(0, -3).split(chunk), proprio.flatten(0, -2).split(chunk), strict=True)
    parts = zip(*(probe(token_chunk.float(), setpoint) for token_chunk, setpoint in rows), strict=True)
    return Reading(*(torch.cat(part).unflatten(0, leading).clone() for part in parts))

"""Reads positions and grasps off a latent state: what a dream holds, in centimeters that a user understands."""

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
    """What a probe reads off a batch of states.

    Attributes:
        cubes: World x, y, z of a cube of each color, `(B, colors, 3)` cm; means nothing for a color not on the table.
        held: Logit that the hand holds the cube of that color off the table, `(B, colors)`.
        hand: World x, y, z of the grasp point, `(B, 3)` cm.
    """

    cubes: Tensor
    held: Tensor
    hand: Tensor


class Probe(nn.Module):
    """Finds the cubes and the hand in a token map.

    A convolution lets each token see its neighbors; each color has a query of its own, which attends over the map and
    brings back where it looks (a soft-argmax: Levine et al. 2016, section 4.3) and what it sees there. On encoded
    pictures of the first default world model that reads a resting cube to 0.25 cm, where a plain MLP of three times
    the size reads it to 0.8 cm, so what is measured is the state and not the probe.

    Args:
        channels: Channels C of one token.
        tokens: Number of tokens; a map, row by row, where that is a square, else a list.
        width: Channels of the convolution.
        hidden: Hidden width of the heads.
    """

    def __init__(self, channels: int, tokens: int = 64, width: int = 64, hidden: int = 128) -> None:
        super().__init__()
        width = max(width, channels)  # so that the first layer can pass on all of a single vector
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
        """Reads tokens `(B, T, C)` with set-points `(B, 4)`."""
        rows, length = tokens.shape[:2]
        place = self.position.expand(rows, -1, -1)
        parts = torch.cat([tokens, place, proprio[:, None].expand(-1, length, -1)], dim=-1)
        seen = self.look(parts.transpose(1, 2).unflatten(2, self.grid))
        seen = F.silu(seen).flatten(2).transpose(1, 2)
        weights = self.queries(seen).softmax(dim=1).transpose(1, 2)
        colors = weights.shape[1]
        found = torch.cat([weights @ seen, weights @ place, proprio[:, None].expand(-1, colors, -1)], dim=-1)
        own = torch.arange(colors)
        each = self.cube(found).unflatten(-1, (colors, 4))[:, own, own]
        hand = self.hand(torch.cat([tokens.flatten(1), proprio], dim=1))
        return Reading(
            self.center[0] + self.scale[0] * each[..., :3], each[..., 3], self.center[1] + self.scale[1] * hand
        )


def fit_probe(train: EncodedDataset, updates: int = 3000, batch: int = 128, rate: float = 3e-3, seed: int = 0) -> Probe:
    """Trains a probe on encoded pictures and nothing else.

    A dreamt state is then read as the picture that it claims to be. A probe that also trained on dreamt states with
    true positions could learn the dream's habits and undo its errors; it reads moved cubes 0.2 cm better, so the
    strict way costs little.

    Args:
        train: Episodes with true positions.
        updates: Number of updates.
        batch: Frames per update.
        rate: Peak of the learning rate.
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
    """Error in units of the spread, square near 0 and linear from a tenth on: as good at resting as at lost cubes."""
    scaled = difference / scale
    return F.smooth_l1_loss(scaled, torch.zeros_like(scaled), beta=0.1)


@torch.inference_mode()
def read(probe: Probe, tokens: Tensor, proprio: Tensor, chunk: int = 512) -> Reading:
    """Reads any number of states: tokens `(..., T, C)` and set-points `(..., 4)`, in chunks of rows."""
    leading = tokens.shape[:-2]
    rows = zip(tokens.flatten(0, -3).split(chunk), proprio.flatten(0, -2).split(chunk), strict=True)
    parts = zip(*(probe(some.float(), setpoint) for some, setpoint in rows), strict=True)
    return Reading(*(torch.cat(part).unflatten(0, leading).clone() for part in parts))

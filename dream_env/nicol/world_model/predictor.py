"""The predictor: one control step of the token map, under an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.nicol import constants
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import ArmRenderer, Camera
from dream_env.nicol.world_model.object_dynamics import PLACE, PRESENT, Mixture, ObjectDynamics, mark
from dream_env.nicol.world_model.state_estimator import CUBE, HAND, READINGS, cubes
from dream_env.world_models.batching import MAPS, in_company

Choice = Callable[..., Tensor]
"""What takes one of `Mixture`, by what it is told, as readings `(B, R)`."""
_BUMP = 0.35
"""Width of the Gaussian that marks the hand's place on the map, in units of half the map."""


class Normalize(nn.Module):
    """Layer normalization without weights, given weights of one all the same: torch's kernel for that is faster."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one: Tensor
        self.zero: Tensor
        self.register_buffer("one", torch.ones(width), persistent=False)
        self.register_buffer("zero", torch.zeros(width), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Gives the last axis of `(..., W)` mean 0 and variance 1."""
        return F.layer_norm(hidden, self.one.shape, self.one, self.zero)


class Block(nn.Module):
    """A residual block: AdaLN (Peebles & Xie 2023, section 3.2), convolution over neighbors if any, SiLU, linear."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.grid, self.normalize = grid, Normalize(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1) if grid > 1 else nn.Conv2d(width, width, 1)
        # Otherwise every call puts the kernel in this order anew.
        self.mix.weight.data = self.mix.weight.data.contiguous(memory_format=torch.channels_last)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        """Updates `(B, T, W)` under a scale and a shift `(B, 1, 2 W)`."""
        scale, shift = modulation.chunk(2, dim=-1)
        normal = torch.addcmul(shift, self.normalize(hidden), 1 + scale)
        # A view of (B, rows, columns, W) as channels-last: the convolution copies nothing.
        picture = normal.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        mixed = in_company(self.mix, picture, company=MAPS).permute(0, 2, 3, 1).flatten(1, 2)
        return hidden + self.project(F.silu(mixed, inplace=True))


class Heads(nn.Module):
    """An ensemble of small networks with one hidden layer each, computed side by side.

    They predict no change until they are trained.

    Args:
        width: Width of their common input.
        hidden: Hidden width of each.
        channels: Width of their outputs.
        ensemble: Number E of heads.
    """

    def __init__(self, width: int, hidden: int, channels: int, ensemble: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, ensemble * hidden)
        self.weight = nn.Parameter(torch.zeros(ensemble, hidden, channels))
        self.bias = nn.Parameter(torch.zeros(ensemble, 1, channels))

    def __len__(self) -> int:
        """Number of heads."""
        return len(self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps `(B, T, W)` to the outputs of every head, `(E, B, T, C)`."""
        hidden = F.silu(self.hidden(inputs), inplace=True).flatten(0, 1).unflatten(-1, (len(self), -1)).transpose(0, 1)
        return torch.baddbmm(self.bias, hidden, self.weight).unflatten(1, inputs.shape[:2])

    def mean(self, inputs: Tensor) -> Tensor:
        """Maps `(B, T, W)` to the mean over the heads, `(B, T, C)`: one product, whatever their number."""
        weight, bias = self.weight.flatten(0, 1) / len(self), self.bias.mean((0, 1))
        return F.linear(F.silu(self.hidden(inputs), inplace=True), weight.T, bias)


class Predictor(nn.Module):
    """Predicts the next tokens by an ensemble of small heads on one convolutional trunk.

    A step moves the hand by at most 0.7 token, so 3x3 mixing is enough for the motion; the conditioning, which also
    sees the mean token, carries what is global. Where the arm and the cubes will be is told in advance, by `ArmRenderer` and
    `ObjectDynamics`; the trunk draws it.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        width: Width W of the trunk.
        blocks: Residual blocks of the trunk.
        ensemble: Number of heads, and of networks that move the cubes.
        head_width: Hidden width of one head.
        sketch: Hidden width of the sketch of the arm; 0 for none.
        interaction: Hidden width of what moves the cubes; 0 for nothing but the trunk.
        learned_proprio: Learns how an action moves the set-point, instead of computing it as the controller does.
        futures: What may come of a contact, number of futures that every network of the interaction tells apart.
    """

    def __init__(
        self,
        channels: int,
        grid: int,
        width: int,
        blocks: int,
        ensemble: int,
        head_width: int,
        sketch: int = 0,
        interaction: int = 0,
        learned_proprio: bool = False,
        futures: int = 1,
    ) -> None:
        super().__init__()
        self.camera = Camera()
        self.interaction = ObjectDynamics(interaction, ensemble, futures) if interaction else None
        self.table = Camera() if interaction else None
        conditions = 3 * len(constants.PROPRIO_NAMES) + channels + (2 * len(COLORS) * len(CUBE) if interaction else 0)
        self.condition = nn.Sequential(nn.Linear(conditions, width), nn.SiLU(), nn.Linear(width, blocks * 2 * width))
        arm = len(constants.PROPRIO_NAMES) + (len(HAND) if interaction else 0)
        self.sketch = ArmRenderer(channels, grid * grid, arm, sketch) if sketch else None
        inputs = (3 if sketch else 1) * channels + 8 + (2 * len(COLORS) * 3 if interaction else 0)
        self.input = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(Block(width, grid) for _ in range(blocks))
        self.normalize = Normalize(width)
        self.heads = Heads(width, head_width, channels, ensemble)
        size = len(constants.PROPRIO_NAMES)
        self.setpoint = _setpoint(size + len(constants.ACTION_NAMES), width, size) if learned_proprio else None
        axis = torch.linspace(-1, 1, grid)
        self.position: Tensor
        self.register_buffer("position", torch.cartesian_prod(axis, axis), persistent=False)
        self.axis: Tensor
        self.register_buffer("axis", axis, persistent=False)
        self.step_size: Tensor
        self.register_buffer("step_size", torch.from_numpy(constants.STEP), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        proprio: Tensor,
        action: Tensor,
        situation: Tensor | None = None,
        choose: Choice = Mixture.expected,
        told: Sequence[Tensor] = (),
    ) -> tuple[Any, ...]:
        """Predicts one step.

        Args:
            tokens: `(B, T, C)`.
            proprio: Set-points `(B, 4)`.
            action: Actions `(B, 4)`.
            situation: What was read of hand and cubes `(B, R)`, see `dream_env.nicol.world_model.state_estimator.READINGS`, if there
                is an interaction; None where nothing was, which is a table without cubes to it.
            choose: What takes one of the `Mixture`, if there is an interaction: `Mixture.expected`, `Mixture.drawn` or
                `Mixture.retraced`.
            told: What it is told, a row per state in each.

        Returns:
            Next tokens of every head `(ensemble, B, T, C)`; the next set-points `(B, 4)`; and, with an interaction, the
            next situation.
        """
        hidden, *after = self._trunk(tokens, proprio, action, situation, choose, told)
        return tokens + self.heads(hidden), *after

    def expect(self, tokens: Tensor, *inputs: Any, **choice: Any) -> tuple[Tensor, ...]:
        """Predicts one step: the tokens' mean over the heads, `(B, T, C)`; the rest as above."""
        hidden, *after = self._trunk(tokens, *inputs, **choice)
        return tokens + self.heads.mean(hidden), *after

    def disagreement(self, tokens: Tensor, proprio: Tensor, action: Tensor, situation: Tensor | None = None) -> Tensor:
        """Gives the variance `(B,)` within the ensemble about a step: of tokens, and of where hand and cubes will be.

        Each in its own unit, so that a decimeter counts as much as everything that can be seen.
        """
        heads, *_ = self(tokens, proprio, action, situation)
        apart = heads.var(0, correction=0).mean((1, 2))
        if self.interaction is None or situation is None:
            return apart
        return apart + in_company(self._doubt, proprio, action, situation)

    def _trunk(
        self,
        tokens: Tensor,
        proprio: Tensor,
        action: Tensor,
        situation: Tensor | None = None,
        choose: Choice = Mixture.expected,
        told: Sequence[Tensor] = (),
    ) -> tuple[Tensor, ...]:
        """Gives what the heads see, `(B, T, W)`, the next set-points, and, with an interaction, the next situation."""
        vectors = [proprio, action, tokens.mean(1)]
        if self.interaction is not None:
            vectors.append(tokens.new_zeros(len(tokens), len(READINGS)) if situation is None else situation)
            vectors += told
        modulation, places, marked, drawn, *after = in_company(partial(self._vectors, choose), *vectors)
        parts = [tokens, *self._relative(places)]
        if self.interaction is not None:
            parts.append(mark(marked[..., :2], marked[..., 2:], self.axis))
        hidden = self.input(torch.cat([*parts, drawn], dim=-1))
        for block, one in zip(self.blocks, modulation.unsqueeze(1).chunk(len(self.blocks), dim=-1), strict=True):
            hidden = block(hidden, one)
        return self.normalize(hidden), *after

    def _moved(self, proprio: Tensor, action: Tensor) -> Tensor:
        """Gives the next set-points."""
        if self.setpoint is None:
            return constants.integrate(proprio, action, self.step_size)
        return proprio + self.setpoint(torch.cat([proprio, action], dim=1))

    def _doubt(self, proprio: Tensor, action: Tensor, situation: Tensor) -> Tensor:
        assert self.interaction is not None
        return self.interaction(situation, proprio, self._moved(proprio, action)).mean().var(0, correction=0).mean(1)

    def _vectors(
        self,
        choose: Choice,
        proprio: Tensor,
        action: Tensor,
        mean: Tensor,
        situation: Tensor | None = None,
        *told: Tensor,
    ) -> tuple[Tensor, ...]:
        """Computes what is one vector per row; `choose` takes one of the `Mixture` by what it is `told`.

        Returns:
            The modulation of the blocks `(B, blocks * 2 W)`; the hand's places on the map before and after,
            `(B, 2, 2)`; those of the cubes and whether they are there, `(B, n, 3)`; what is drawn of the arm,
            `(B, T, ...)`; the next set-points `(B, 4)`; and, with an interaction, the next situation.
        """
        moved = self._moved(proprio, action)
        after, conditions, arm = [moved], [proprio, action, moved, mean], (proprio, moved)
        marked, drawn = mean.new_empty(len(mean), 0, 3), mean.new_empty(len(mean), len(self.position), 0)
        if self.interaction is not None and self.table is not None and situation is not None:
            after.append(choose(self.interaction(situation, proprio, moved), *told))
            both = torch.cat([cubes(situation), cubes(after[1])], dim=1)
            present = both[..., PRESENT:]
            conditions.append((both * present).flatten(1))
            marked = torch.cat([self.table(both[..., PLACE]), present], dim=-1)
            hands = situation[..., : len(HAND)], after[1][..., : len(HAND)]
            arm = torch.cat([proprio, hands[0]], dim=1), torch.cat([moved, hands[1]], dim=1)
        if self.sketch is not None:
            drawn = self.sketch(*arm)
        modulation = self.condition(torch.cat(conditions, dim=1))
        places = torch.stack([self.camera(proprio), self.camera(moved)], dim=1)
        return modulation, places, marked, drawn, *after

    def _relative(self, places: Tensor) -> list[Tensor]:
        """Where each token is: on the map and relative to the hand before and after the step, `(B, T, 8)` in parts."""
        parts = [self.position.expand(len(places), -1, -1)]
        for place in places.unbind(1):
            offset = self.position - place.unsqueeze(1)
            parts += [offset, torch.exp(offset.square().sum(-1, keepdim=True) / (-2 * _BUMP**2))]
        return parts


def draw(predictions: Tensor, noise: Tensor) -> Tensor:
    """Returns for each row one of the predictions `(ensemble, B, ...)`, by noise `(B,)` in [0, 1)."""
    return predictions[(noise * len(predictions)).long(), torch.arange(len(noise), device=predictions.device)]


def _setpoint(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Builds the network that moves the set-point; it predicts no change until it is trained."""
    output = nn.Linear(hidden, outputs)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), output)

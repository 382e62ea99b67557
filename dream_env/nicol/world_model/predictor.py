"""The predictor of the token map after a control step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.nicol import constants
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.object_dynamics import PLACE, PRESENT
from dream_env.nicol.world_model.projection import Projection, gaussian_heatmap
from dream_env.nicol.world_model.state_estimator import CUBE, HAND, cubes

_WIDTH = 0.35
"""Standard deviation of the Gaussian at the hand's position on the map, in units of half the map."""


class Normalize(nn.Module):
    """Layer normalization without learned weights.

    It passes constant weights of one and biases of zero, since torch's kernel with weights is faster.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one: Tensor
        self.zero: Tensor
        self.register_buffer("one", torch.ones(width), persistent=False)
        self.register_buffer("zero", torch.zeros(width), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalizes the last axis of `(..., W)` to mean 0 and variance 1."""
        return F.layer_norm(hidden, self.one.shape, self.one, self.zero)


class Block(nn.Module):
    """A residual block: AdaLN (Peebles & Xie 2023, section 3.2), 3x3 convolution, SiLU, linear layer."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.grid, self.normalize = grid, Normalize(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        # Otherwise every call would convert the kernel to this memory format.
        self.mix.weight.data = self.mix.weight.data.contiguous(memory_format=torch.channels_last)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        """Updates `(B, T, W)`, modulated by a scale and a shift `(B, 1, 2 W)`."""
        scale, shift = modulation.chunk(2, dim=-1)
        normal = torch.addcmul(shift, self.normalize(hidden), 1 + scale)
        # A view of (B, rows, columns, W) as channels-last: the convolution copies nothing.
        picture = normal.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        mixed = self.mix(picture).permute(0, 2, 3, 1).flatten(1, 2)
        return hidden + self.project(F.silu(mixed, inplace=True))


class Heads(nn.Module):
    """An ensemble of small networks with one hidden layer each, computed in parallel.

    The output layer is initialized to zero, so untrained heads predict no change.

    Args:
        width: Width W of the shared input.
        hidden: Hidden width of each head.
        channels: Width C of the outputs.
        ensemble: Number E of heads.
    """

    def __init__(self, width: int, hidden: int, channels: int, ensemble: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, ensemble * hidden)
        self.weight = nn.Parameter(torch.zeros(ensemble, hidden, channels))
        self.bias = nn.Parameter(torch.zeros(ensemble, 1, channels))

    def __len__(self) -> int:
        """Returns the number of heads."""
        return len(self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps `(B, T, W)` to the outputs of every head, `(E, B, T, C)`."""
        hidden = F.silu(self.hidden(inputs), inplace=True).flatten(0, 1).unflatten(-1, (len(self), -1)).transpose(0, 1)
        return torch.baddbmm(self.bias, hidden, self.weight).unflatten(1, inputs.shape[:2])


class Predictor(nn.Module):
    """Predicts the next token map with an ensemble of small heads on one convolutional trunk.

    A step moves the hand by at most 0.7 tokens, so 3x3 convolutions are enough for the motion. Global information comes
    from the conditioning, which includes the mean token. The next positions of hand and cubes are inputs, see
    `ObjectDynamics`, and the arm is drawn by `ArmRenderer`.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        width: Width W of the trunk.
        blocks: Residual blocks of the trunk.
        ensemble: Number E of heads.
        head_width: Hidden width of one head.
        arm_renderer_width: Hidden width of the arm renderer; 0 for no arm renderer.
        cube_heatmaps: Whether to add a Gaussian at each cube's position, before and after the step, to the trunk's
            input.
    """

    def __init__(
        self,
        channels: int,
        grid: int,
        width: int,
        blocks: int,
        ensemble: int,
        head_width: int,
        arm_renderer_width: int,
        cube_heatmaps: bool,
    ) -> None:
        super().__init__()
        setpoint, objects = len(constants.PROPRIO_NAMES), 2 * len(COLORS)
        self.hand_projection, self.cube_projection = Projection(), Projection() if cube_heatmaps else None
        conditions = 3 * setpoint + channels + objects * len(CUBE)
        self.condition = nn.Sequential(nn.Linear(conditions, width), nn.SiLU(), nn.Linear(width, blocks * 2 * width))
        self.arm_renderer: ArmRenderer | None = None
        if arm_renderer_width:
            self.arm_renderer = ArmRenderer(channels, grid * grid, setpoint + len(HAND), arm_renderer_width)
        self.input = nn.Linear((3 if arm_renderer_width else 1) * channels + 8 + 3 * objects * cube_heatmaps, width)
        self.blocks = nn.ModuleList(Block(width, grid) for _ in range(blocks))
        self.normalize = Normalize(width)
        self.heads = Heads(width, head_width, channels, ensemble)
        axis = torch.linspace(-1, 1, grid)
        self.position: Tensor
        self.register_buffer("position", torch.cartesian_prod(axis, axis), persistent=False)
        self.axis: Tensor
        self.register_buffer("axis", axis, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        action: Tensor,
        setpoint: Tensor,
        next_setpoint: Tensor,
        object_state: Tensor,
        next_object_state: Tensor,
    ) -> Tensor:
        """Predicts the tokens after one step.

        Args:
            tokens: Tokens before the step, `(B, T, C)`.
            action: Actions `(B, 4)`.
            setpoint: Set-points before the step, `(B, 4)`.
            next_setpoint: Set-points after the step, `(B, 4)`.
            object_state: Object states before the step, `(B, R)`, see `state_estimator.OBJECT_STATE`.
            next_object_state: Object states after the step, `(B, R)`.

        Returns:
            Next tokens of every head, `(E, B, T, C)`.
        """
        both = torch.cat([cubes(object_state), cubes(next_object_state)], dim=1)
        present = both[..., PRESENT:]
        conditions = [setpoint, action, next_setpoint, tokens.mean(1), (both * present).flatten(1)]
        modulation = self.condition(torch.cat(conditions, dim=1)).unsqueeze(1)
        parts = [tokens, self.position.expand(len(tokens), -1, -1)]
        parts += self._near(self.hand_projection(setpoint)) + self._near(self.hand_projection(next_setpoint))
        if self.cube_projection is not None:
            parts.append(gaussian_heatmap(self.cube_projection(both[..., PLACE]), present, self.axis))
        if self.arm_renderer is not None:
            arm = [(setpoint, object_state), (next_setpoint, next_object_state)]
            parts.append(self.arm_renderer(*(torch.cat([each, hand[:, : len(HAND)]], dim=1) for each, hand in arm)))
        hidden = self.input(torch.cat(parts, dim=-1))
        for block, scale_shift in zip(self.blocks, modulation.chunk(len(self.blocks), dim=-1), strict=True):
            hidden = block(hidden, scale_shift)
        return tokens + self.heads(self.normalize(hidden))

    def _near(self, place: Tensor) -> list[Tensor]:
        """Returns each token's offset from a position `(B, 2)` on the map, and a Gaussian of that offset."""
        offset = self.position - place.unsqueeze(1)
        return [offset, torch.exp(offset.square().sum(-1, keepdim=True) / (-2 * _WIDTH**2))]

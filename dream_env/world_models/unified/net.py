"""Network of the unified model: a shared trunk, a dynamics stream and an action stream.

The information flow is that of a causal transformer with the blocks [state tokens], [goal or instruction, action
queries], [action], [next tokens]. The trunk sees the state only, so the action queries cannot depend on the action or
on what follows, and the dynamics cannot depend on the goal or the instruction. Each stream has its own norms and heads
(as DUST, 2510.27607, recommends) and its own layers after the trunk, so that policy training can leave the dynamics
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.world_models.unified.config import UnifiedConfig
from dream_env.world_models.unified.tokens import Tokens


class Layer(nn.Module):
    """Pre-norm transformer layer: self-attention or cross-attention, followed by an MLP.

    Args:
        width: Width W of tokens.
        heads: Number of attention heads.
        hidden: Width of the hidden layer of the MLP.
        outside: Uses cross-attention to a separate context instead of self-attention.
    """

    def __init__(self, width: int, heads: int, hidden: int, outside: bool = False) -> None:
        super().__init__()
        self.heads, self.outside = heads, outside
        self.before = nn.LayerNorm(width)
        self.context = nn.LayerNorm(width) if outside else None
        self.query = nn.Linear(width, width) if outside else None
        self.looks = nn.Linear(width, (2 if outside else 3) * width)
        self.out = nn.Linear(width, width)
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps tokens `(B, N, W)` to tokens; `context` `(B, M, W)` is only used with cross-attention."""
        normal = self.before(tokens)
        if self.query is None or self.context is None:
            query, key, value = self._heads(self.looks(normal), 3)
        else:
            assert context is not None
            (query,), (key, value) = (
                self._heads(self.query(normal), 1),
                self._heads(self.looks(self.context(context)), 2),
            )
        found = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        return tokens + self.think(tokens)

    def _heads(self, values: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits `(B, N, parts * W)` into `parts` tensors `(B, heads, N, W / heads)`."""
        return values.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class Trunk(nn.Module):
    """Encodes the tokens of a state; the robot features are added to every token.

    Args:
        config: Sizes of the network.
        tokens: Number T and sizes of the tokens.
    """

    def __init__(self, config: UnifiedConfig, tokens: Tokens) -> None:
        super().__init__()
        width = config.width
        self.enter = nn.Linear(tokens.seen, width)
        self.robot = nn.Linear(tokens.robot, width) if tokens.robot else None
        self.name = nn.Parameter(0.5 * torch.randn(tokens.count, width))
        self.layers = nn.ModuleList(Layer(width, config.heads, config.hidden) for _ in range(config.trunk))

    def forward(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """Maps token features `(B, T, seen)` and robot features `(B, robot)` to `(B, T, W)`."""
        found = self.enter(tokens) + self.name
        if self.robot is not None:
            found = found + self.robot(robot).unsqueeze(-2)
        for layer in self.layers:
            found = layer(found)
        return found


class DreamStream(nn.Module):
    """Dynamics stream: predicts how an action changes the tokens, their memory and the robot state.

    Args:
        config: Sizes of the network: width W, memory M of a token, and number E of output heads.
        tokens: Sizes of the tokens and of the robot state P, which is predicted separately from the tokens.
        action: Size A of an action.
    """

    def __init__(self, config: UnifiedConfig, tokens: Tokens, action: int) -> None:
        super().__init__()
        width, hidden, own = config.width, config.hidden, tokens.own
        self.members, self.sizes = config.members, [tokens.changes, config.memory]
        self.own = None
        if own:
            self.own = nn.Sequential(nn.Linear(own + action, hidden), nn.SiLU(), nn.Linear(hidden, own))
        self.enter = nn.Linear(tokens.seen + config.memory, width)
        self.done = nn.Linear(2 * tokens.robot + action, width)
        self.layers = nn.ModuleList(Layer(width, config.heads, hidden) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, self.members * sum(self.sizes))

    def own_after(self, own: Tensor, action: Tensor) -> Tensor:
        """Predicts the robot state after an action, `(..., P)`."""
        return own if self.own is None else own + self.own(torch.cat([own, action], -1))

    def forward(
        self, scene: Tensor, seen: Tensor, memory: Tensor, robot: Tensor, after: Tensor, action: Tensor
    ) -> Tensor:
        """Returns the outputs of the heads, `(E, B, T, changes + M)`, see `parts`.

        Args:
            scene: Output of the trunk, `(B, T, W)`.
            seen: Token features relative to the robot after the action, with unchanged tokens, `(B, T, seen)`.
            memory: `(B, T, M)`.
            robot: Robot features before the action, `(B, robot)`.
            after: Robot features after the action, `(B, robot)`.
            action: `(B, A)`, of about unit size.
        """
        action_embedding = self.done(torch.cat([robot, after - robot, action], -1))
        tokens = scene + self.enter(torch.cat([seen, memory], -1)) + action_embedding.unsqueeze(-2)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.leave(self.norm(tokens)).unflatten(-1, (self.members, -1)).permute(2, 0, 1, 3)

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Splits outputs of heads, or a combination of them, into changes `(..., changes)` and memories `(..., M)`."""
        change, kept = output.split(self.sizes, -1)
        return change, kept.tanh()


class ActionStream(nn.Module):
    """Predicts an action chunk from the output of the trunk and from conditions such as the goal and the instruction.

    Args:
        config: Sizes of the network: width W, number Q of action queries, and number of actions of a chunk.
        robot: Size of the robot features.
        action: Size A of an action.
        conditions: Sizes of the conditions by name, such as the goal embedding and the instruction embedding.
    """

    def __init__(self, config: UnifiedConfig, robot: int, action: int, conditions: Mapping[str, int]) -> None:
        super().__init__()
        self.names, self.lengths = tuple(conditions), [robot, *conditions.values()]
        total, width, queries, features = sum(self.lengths), config.width, config.queries, config.features
        self.about = nn.Linear(total, width) if total else None
        self.register_buffer("shift", torch.zeros(total))
        self.register_buffer("factor", torch.ones(total))
        self.query = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(
            Layer(width, config.heads, config.hidden, outside=True) for _ in range(config.layers)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(queries * width, features), nn.SiLU())
        self.head = nn.Linear(features, config.chunk * action)

    shift: Tensor
    factor: Tensor

    @torch.no_grad()
    def measure(self, robot: Tensor, conditions: Mapping[str, Tensor]) -> None:
        """Sets the normalization of robot features and conditions from samples; arguments as in `forward`."""
        values = torch.cat([robot, *(conditions[name] for name in self.names)], -1)
        self.factor.copy_(1 / values.std(0).clamp_min(0.05))
        self.shift.copy_(-values.mean(0) * self.factor)

    def spreads(self) -> dict[str, Tensor]:
        """Returns the standard deviations of the conditions by name, as set by `measure`."""
        return dict(zip(self.names, (1 / self.factor).split(self.lengths)[1:], strict=True))

    def forward(self, scene: Tensor, robot: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """Returns the outputs `(B, chunk * A)`.

        Args:
            scene: Output of the trunk, `(B, T, W)`.
            robot: Robot features, `(B, robot)`.
            conditions: Conditions by name, `(B, n)` each.
        """
        queries = self.query.expand(len(scene), -1, -1)
        if self.about is not None:
            values = torch.cat([robot, *(conditions[name] for name in self.names)], -1)
            queries = queries + self.about(torch.addcmul(self.shift, values, self.factor))[:, None]
        for layer in self.layers:
            queries = layer(queries, scene)
        return self.head(self.leave(queries))

"""The network of a unified model: a trunk that both streams share, a stream that foresees and one that acts.

The order is that of a causal transformer whose blocks are [tokens of the state], [what was asked for, action query],
[action], [next tokens]: the trunk sees the state alone, so nothing of an action or of what follows can reach the action
query, and what was asked for cannot reach the dream. Streams have their own norms and heads (DUST, 2510.27607, found
that they should), and layers of their own behind the trunk, so that practice can leave the dream as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """Tokens look at a context, which may be themselves, and think about it: attention and a hidden layer.

    Args:
        width: Width W of tokens.
        heads: Heads of attention.
        hidden: Width of the hidden layer.
        outside: Whether the context is another one than the tokens.
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
        """Maps tokens `(B, N, W)` to tokens; the context is `(B, M, W)`."""
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
        """Splits `(B, N, parts * W)` into parts `(B, heads, N, W / heads)`."""
        return values.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class Trunk(nn.Module):
    """Reads the tokens of a state, each beside the robot's numbers.

    Args:
        count: Tokens T.
        seen: Numbers of a token.
        robot: The robot's numbers.
        width: Width W.
        heads: Heads of attention.
        hidden: Width of hidden layers.
        layers: Layers.
    """

    def __init__(self, count: int, seen: int, robot: int, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(seen, width)
        self.robot = nn.Linear(robot, width) if robot else None
        self.name = nn.Parameter(0.5 * torch.randn(count, width))
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))

    def forward(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """Maps tokens `(B, T, seen)` and the robot `(B, robot)` to `(B, T, W)`."""
        found = self.enter(tokens) + self.name
        if self.robot is not None:
            found = found + self.robot(robot).unsqueeze(-2)
        for layer in self.layers:
            found = layer(found)
        return found


class DreamStream(nn.Module):
    """Predicts how tokens and the robot change under an action, and what tokens remember.

    Args:
        seen: Numbers that are seen of a token.
        own: The robot's own numbers P, which move by themselves; 0 for none.
        robot: All of the robot's numbers.
        action: Numbers A of an action.
        changes: Numbers of a token's change.
        memory: Numbers M that a token remembers.
        members: Heads E.
        width: Width W.
        heads: Heads of attention.
        hidden: Width of hidden layers.
        layers: Layers.
    """

    def __init__(
        self,
        seen: int,
        own: int,
        robot: int,
        action: int,
        changes: int,
        memory: int,
        members: int,
        width: int,
        heads: int,
        hidden: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.members, self.sizes = members, [changes, memory]
        self.own = None
        if own:
            self.own = nn.Sequential(nn.Linear(own + action, hidden), nn.SiLU(), nn.Linear(hidden, own))
        self.enter = nn.Linear(seen + memory, width)
        self.done = nn.Linear(2 * robot + action, width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, members * (changes + memory))

    def own_after(self, own: Tensor, action: Tensor) -> Tensor:
        """Returns the robot's own numbers after an action, `(..., P)`."""
        return own if self.own is None else own + self.own(torch.cat([own, action], -1))

    def forward(
        self, scene: Tensor, seen: Tensor, memory: Tensor, robot: Tensor, after: Tensor, action: Tensor
    ) -> Tensor:
        """Returns what the heads say, `(E, B, T, changes + M)`, see `parts`.

        Args:
            scene: What the trunk makes of the state, `(B, T, W)`.
            seen: What will be seen of the tokens after the action if they stay as they are, `(B, T, seen)`.
            memory: `(B, T, M)`.
            robot: The robot's numbers `(B, robot)` now.
            after: And after the action.
            action: `(B, A)`, of about unit size.
        """
        done = self.done(torch.cat([robot, after - robot, action], -1))
        tokens = scene + self.enter(torch.cat([seen, memory], -1)) + done.unsqueeze(-2)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.leave(self.norm(tokens)).unflatten(-1, (self.members, -1)).permute(2, 0, 1, 3)

    def parts(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """Returns changes `(..., changes)` and memories `(..., M)` of what heads say, or of what is made of it."""
        change, kept = told.split(self.sizes, -1)
        return change, kept.tanh()


class ActionStream(nn.Module):
    """Makes a chunk of actions of what the trunk sees and of what was asked for.

    Args:
        robot: The robot's numbers.
        asked: Numbers of what was asked for, by name, such as a goal's embedding and a sentence's.
        numbers: Numbers of the answer.
        queries: Action queries Q.
        features: Numbers that the answer is made of.
        width: Width W.
        heads: Heads of attention.
        hidden: Width of hidden layers.
        layers: Layers.
    """

    def __init__(
        self,
        robot: int,
        asked: Mapping[str, int],
        numbers: int,
        queries: int,
        features: int,
        width: int,
        heads: int,
        hidden: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.names, self.lengths = tuple(asked), [robot, *asked.values()]
        about = sum(self.lengths)
        self.about = nn.Linear(about, width) if about else None
        self.register_buffer("shift", torch.zeros(about))
        self.register_buffer("factor", torch.ones(about))
        self.query = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(Layer(width, heads, hidden, outside=True) for _ in range(layers))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(queries * width, features), nn.SiLU())
        self.head = nn.Linear(features, numbers)

    shift: Tensor
    factor: Tensor

    @torch.no_grad()
    def measure(self, robot: Tensor, asked: Mapping[str, Tensor]) -> None:
        """Takes mean and spread of what queries are told, from some of it; arguments as of `forward`."""
        values = torch.cat([robot, *(asked[name] for name in self.names)], -1)
        self.factor.copy_(1 / values.std(0).clamp_min(0.05))
        self.shift.copy_(-values.mean(0) * self.factor)

    def spreads(self) -> dict[str, Tensor]:
        """Returns the spread of every number of what was asked for, by name, as it was measured."""
        return dict(zip(self.names, (1 / self.factor).split(self.lengths)[1:], strict=True))

    def forward(self, scene: Tensor, robot: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        """Returns `(B, numbers)`.

        Args:
            scene: What the trunk makes of the state, `(B, T, W)`.
            robot: The robot's numbers `(B, robot)`.
            asked: What was asked for, `(B, n)` by name.
        """
        queries = self.query.expand(len(scene), -1, -1)
        if self.about is not None:
            told = torch.cat([robot, *(asked[name] for name in self.names)], -1)
            queries = queries + self.about(torch.addcmul(self.shift, told, self.factor))[:, None]
        for layer in self.layers:
            queries = layer(queries, scene)
        return self.head(self.leave(queries))

"""The embedding: of the slot that a sentence names and the robot's own state; squared distances count steps.

A sentence chooses slots by a softmax that is learned from the distance alone, and says by a short code what is to be
done. In a world without sentences all slots are taken.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.world_models.slots.dynamics import Layers


class StepEmbedding(nn.Module):
    """Embeds slots and own state under a sentence, so that `|phi(s) - phi(g)|^2` is about the steps from s to g.

    Args:
        slots: Slots K.
        numbers: Numbers of a slot, with those that relate it to the robot's hand.
        own: Numbers of the robot's own state, with the place of its hand.
        instruction: Length of a sentence's embedding; 0 in a world without.
        queries: Slots that a sentence can name.
        code: Numbers of a task's code.
        nets: Networks N.
        dim: Numbers that each gives.
        width: Width of their three hidden layers.
    """

    def __init__(
        self,
        slots: int,
        numbers: int,
        own: int,
        instruction: int,
        queries: int,
        code: int,
        nets: int,
        dim: int,
        width: int,
    ) -> None:
        super().__init__()
        self.slots, self.queries, self.nets, self.instruction = slots, queries, nets, instruction
        if instruction:
            self.query = Layers(nets, [instruction, 32, queries * slots])
            self.code = Layers(nets, [instruction, code])
        inputs = (queries * numbers + code if instruction else slots * numbers) + own
        self.net = Layers(nets, [inputs, width, width, width, dim])

    def inputs(self, slots: Tensor, own: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns what is embedded, `(N, B, inputs)`: slots `(B, K, n)`, own `(B, P)`, instruction `(B, I)`."""
        if not self.instruction:
            return torch.cat([slots.flatten(1), own], -1).expand(self.nets, -1, -1)
        if instruction is None:
            raise ValueError("the state has no 'instruction'; accepted: observations encoded with their sentence's")
        words = instruction.expand(self.nets, -1, -1)
        chosen = self.attention(instruction) @ slots  # (N, B, Q, n)
        parts = [chosen.flatten(2), own.expand(self.nets, -1, -1), self.code(words)]
        return torch.cat(parts, -1)

    def attention(self, instruction: Tensor) -> Tensor:
        """Returns which slots sentences `(B, I)` name, `(N, B, queries, K)`."""
        scores = self.query(instruction.expand(self.nets, -1, -1))
        return scores.unflatten(-1, (self.queries, self.slots)).softmax(-1)

    def named(self, slots: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns the slots that sentences name, alone and as they are, `(B, queries * n)`; all in a world without."""
        if not self.instruction or instruction is None:
            return slots.flatten(1)
        chosen = self.attention(instruction).mean(0).argmax(-1)  # (B, Q)
        return slots.gather(1, chosen[..., None].expand(-1, -1, slots.shape[-1])).flatten(1)

    def forward(self, slots: Tensor, own: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns embeddings `(B, N * dim)`; the squared distance of two is the mean of the networks'."""
        return self.embedded(self.inputs(slots, own, instruction)).transpose(0, 1).flatten(1)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Returns each network's part of embeddings, `(N, B, dim)`, from `(N, B, inputs)`."""
        return self.net(inputs) * self.nets**-0.5

    def apart(self, inputs: Tensor, goal: Tensor) -> Tensor:
        """Returns the differences `(N, B, dim)` of what is embedded, `(N, B, inputs)`, to embeddings `(B, E)`."""
        embedded = self.embedded(inputs)
        return embedded - goal[:, : self.nets * embedded.shape[-1]].unflatten(-1, (self.nets, -1)).transpose(0, 1)

"""Embedding of the slots that the instruction refers to and of the robot state; squared distances count steps.

The instruction selects slots by softmax attention, which is learned from the distance loss alone, and also yields a
short code for the task. In a world without instructions all slots are used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.world_models.ensemble import EnsembleMLP
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.outcomes import softmax


class StepEmbedding(nn.Module):
    """Embeds slots and robot state, given an instruction: `|phi(s) - phi(g)|^2` is about the steps from s to g.

    Args:
        config: Numbers of slots K, of queries Q and of networks N, and sizes of the networks.
        numbers: Size n of a slot, including its offset from the robot's hand.
        own: Size P of the robot state, including the image position of the hand.
        instruction: Length I of a sentence embedding; 0 in a world without instructions.
    """

    def __init__(self, config: SlotConfig, numbers: int, own: int, instruction: int) -> None:
        super().__init__()
        slots, queries, nets = config.slots, config.queries, config.nets
        self.slots, self.queries, self.nets, self.instruction = slots, queries, nets, instruction
        if instruction:
            self.query = EnsembleMLP(nets, [instruction, 32, queries * slots])
            self.code = EnsembleMLP(nets, [instruction, config.code])
        inputs = (queries * numbers + config.code if instruction else slots * numbers) + own
        self.net = EnsembleMLP(nets, [inputs, *[config.net_width] * 3, config.net_dim])

    def inputs(self, slots: Tensor, own: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns the inputs of the networks, `(N, B, inputs)`.

        Args:
            slots: `(B, K, n)`.
            own: Robot states `(B, P)`.
            instruction: Sentence embeddings `(B, I)`; None in a world without instructions.

        Raises:
            ValueError: If the instruction is missing in a world with instructions.
        """
        if not self.instruction:
            return torch.cat([slots.flatten(1), own], -1).expand(self.nets, -1, -1)
        if instruction is None:
            raise ValueError("the state has no 'instruction'; accepted: states of observations with 'instruction'")
        words = instruction.expand(self.nets, -1, -1)
        chosen = self.attention(instruction) @ slots  # (N, B, Q, n)
        parts = [chosen.flatten(2), own.expand(self.nets, -1, -1), self.code(words)]
        return torch.cat(parts, -1)

    def attention(self, instruction: Tensor) -> Tensor:
        """Returns the attention weights of instructions `(B, I)` over slots, `(N, B, queries, K)`."""
        scores = self.query(instruction.expand(self.nets, -1, -1))
        return softmax(scores.unflatten(-1, (self.queries, self.slots)))

    def named(self, slots: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns the slots with the largest attention, `(B, queries * n)`; all slots without an instruction."""
        if not self.instruction or instruction is None:
            return slots.flatten(1)
        chosen = self.attention(instruction).mean(0).argmax(-1)  # (B, Q)
        return slots.gather(1, chosen[..., None].expand(-1, -1, slots.shape[-1])).flatten(1)

    def forward(self, slots: Tensor, own: Tensor, instruction: Tensor | None) -> Tensor:
        """Returns embeddings `(B, N * dim)`; their squared distance is the mean of the networks' squared distances."""
        return self.embedded(self.inputs(slots, own, instruction)).transpose(0, 1).flatten(1)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Maps inputs `(N, B, inputs)` to each network's part of the embedding, `(N, B, dim)`."""
        return self.net(inputs) * self.nets**-0.5

    def apart(self, inputs: Tensor, goal: Tensor) -> Tensor:
        """Returns the differences `(N, B, dim)` of embedded inputs `(N, B, inputs)` to goal embeddings `(B, E)`."""
        embedded = self.embedded(inputs)
        return embedded - goal[:, : self.nets * embedded.shape[-1]].unflatten(-1, (self.nets, -1)).transpose(0, 1)

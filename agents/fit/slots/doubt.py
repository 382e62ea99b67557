"""Windows in which it is in doubt what will come, as far as a model of slots can tell before it comes.

Where a thing is taken, carried or lost is a small part of the time. Windows that are drawn by what came of it would
teach a wrong chance; so they are drawn by their first state and their actions alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dream_env.agents.fit.recorded import Recorded
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES

LOOKED_AT = 16_000
"""Windows of which it is asked."""
DRAWS = 2
"""Dreams of each."""
REFRESHED = 0.2
"""Share of the updates after which it is asked anew."""
CHUNK = 2000
"""Windows that are predicted at a time."""


class Doubtful:
    """Draws the first frames of windows, the more often the more the model doubts what comes of them.

    Args:
        model: The model.
        data: Recorded episodes as slots.
        ahead: Steps of a window.
    """

    def __init__(self, model: SlotModel, data: Recorded, ahead: int) -> None:
        self.model, self.data, self.ahead = model, data, ahead
        self.asked, self.begin, self.weight = 0, torch.empty(0, dtype=torch.int64), torch.empty(0)

    def draw(self, count: int, generator: torch.Generator, progress: float) -> Tensor | None:
        """Returns frames `(count,)`; None in the first part of a fit, as nothing is known yet.

        Args:
            count: Number of frames.
            generator: Source of randomness.
            progress: Of the fit, 0 to 1.
        """
        turn = int(progress / REFRESHED)
        if turn > self.asked:
            self.asked = turn
            some = torch.randint(len(self.data.acted), (LOOKED_AT,), generator=generator)
            self.begin = self.data.acted[some]
            self.weight = torch.cat([self.doubt(part, generator) for part in self.begin.split(CHUNK)])
        if not self.asked or not self.weight.sum() > 0:
            return None
        return self.begin[torch.multinomial(self.weight, count, replacement=True, generator=generator)]

    @torch.no_grad()
    def doubt(self, begin: Tensor, generator: torch.Generator) -> Tensor:
        """Returns how far dreams of windows from frames `(B,)` on lie apart by chance.

        Returns:
            The variance of where that slot is in the end which is most in doubt, `(B,)`.
        """
        window, model = self.data.windows(begin, self.ahead), self.model
        first = {name: part[begin] for name, part in self.data.observation.items() if name != "visible"}
        first["memory"] = torch.zeros(*first["slots"].shape[:2], model.remembered)
        ends = []
        for _ in range(DRAWS):
            state = first
            for k in range(self.ahead):
                after, _ = model.step(state, window.action[:, k], torch.rand(len(begin), 1, generator=generator))
                done = window.known[:, k]
                state = {
                    name: torch.where(done.view(-1, *[1] * (p.dim() - 1)), p, state[name]) for name, p in after.items()
                }
            ends.append(state["slots"].unflatten(-1, (model.cameras, FEATURES))[..., :2].flatten(2))
        return torch.stack(ends).var(0).sum(-1).amax(-1)

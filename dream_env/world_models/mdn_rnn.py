"""M of World Models: a recurrent network with a mixture of Gaussians as its answer (Ha & Schmidhuber 2018, A.2).

Mixture density networks: Bishop (1994); with an LSTM: Graves (2013). Every number of the next code has a mixture of its
own. The same network tells the reward of a step and whether the episode ends with it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


class Mixture(NamedTuple):
    """Mixtures of K normal distributions, one for each number of a code, `(..., Z, K)` each.

    Attributes:
        logit: Logits of the components' weights.
        mean: Means.
        log_std: Logarithms of the standard deviations.
    """

    logit: Tensor
    mean: Tensor
    log_std: Tensor

    def log_likelihood(self, code: Tensor) -> Tensor:
        """Returns the logarithm of the density at codes `(..., Z)`, for each number."""
        away = (code[..., None] - self.mean) * (-self.log_std).exp()
        each = -0.5 * away**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(self.logit.log_softmax(-1) + each, -1)

    def likeliest(self) -> Tensor:
        """Returns the mean of the component of the largest weight, `(..., Z)`."""
        return self._of(self.mean, self.logit.argmax(-1))

    def draw(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Draws codes.

        Args:
            noise: Uniform random numbers `(..., 2 Z)` in [0, 1): the first half picks the components, the other one
                says where in them the codes lie, each by the inverse of a distribution function.
            temperature: Divides the logits of the weights and multiplies the variances, as the paper does: towards 0
                only the likeliest component's mean is left.

        Returns:
            Codes `(..., Z)`.
        """
        if temperature <= 0:
            return self.likeliest()
        pick, place = noise.chunk(2, -1)
        below = (self.logit / temperature).softmax(-1).cumsum(-1)
        component = (pick[..., None] >= below).sum(-1).clamp(max=self.logit.shape[-1] - 1)
        normal = torch.special.ndtri(place.clamp(1e-6, 1 - 1e-6))
        spread = self._of(self.log_std, component).exp() * math.sqrt(temperature)
        return self._of(self.mean, component) + spread * normal

    @staticmethod
    def _of(values: Tensor, component: Tensor) -> Tensor:
        return values.gather(-1, component[..., None])[..., 0]


class MDNRNN(nn.Module):
    """See the module.

    Args:
        latent: Numbers Z of a code.
        action: Numbers of an action.
        memory: Width H of the LSTM.
        mixtures: Components K of a mixture.
    """

    def __init__(self, latent: int, action: int, memory: int, mixtures: int) -> None:
        super().__init__()
        self.latent, self.mixtures = latent, mixtures
        self.lstm = nn.LSTM(latent + action, memory, batch_first=True)
        bias: Any = self.lstm.bias_ih_l0
        with torch.no_grad():  # forgets little at first (Jozefowicz et al. 2015)
            bias[memory : 2 * memory] = 1.0
        self.head = nn.Linear(memory, 3 * latent * mixtures + 2)
        # A code is much like the one before it: how much, each number of it learns for itself.
        self.kept = nn.Parameter(torch.zeros(latent))

    def cell(self, seen: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the LSTM one step further.

        Args:
            seen: Codes and actions, `(B, Z + A)`.
            hidden: What it gave out before, `(B, H)`.
            cell: What it keeps, `(B, H)`.
        """
        own: Any = self.lstm
        return self._moved(F.linear(seen, own.weight_ih_l0, own.bias_ih_l0), hidden, cell)

    def _moved(self, entered: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        own: Any = self.lstm
        gates = entered + F.linear(hidden, own.weight_hh_l0, own.bias_hh_l0)
        enter, forget, fresh, leave = gates.float().chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * fresh.tanh()
        return leave.sigmoid() * cell.tanh(), cell

    def sequences(self, seen: PackedSequence) -> Tensor:
        """Takes the LSTM through sequences that begin with an empty memory, and returns its outputs `(N, H)`.

        What `nn.LSTM` makes of them, but in a third of the time on a CPU: its gradients fill N rows for each step.

        Args:
            seen: Codes and actions, N in all.
        """
        own: Any = self.lstm
        entered = F.linear(seen.data, own.weight_ih_l0, own.bias_ih_l0).split(seen.batch_sizes.tolist())
        hidden = cell = seen.data.new_zeros(len(entered[0]), own.hidden_size)
        found = []
        for one in entered:
            hidden, cell = self._moved(one, hidden[: len(one)], cell[: len(one)])
            found.append(hidden)
        return torch.cat(found)

    def told(self, hidden: Tensor, code: Tensor) -> tuple[Mixture, Tensor, Tensor]:
        """Returns what the LSTM says of the next moment.

        Args:
            hidden: `(..., H)`.
            code: The codes before, `(..., Z)`.

        Returns:
            The mixtures of the next codes, their rewards (standardized) and the logits of an end, `(...)`.
        """
        answer = self.head(hidden).float()
        mixture = answer[..., :-2].unflatten(-1, (3, self.latent, self.mixtures))
        logit, mean, log_std = mixture.unbind(-3)
        mean = mean + (self.kept * code)[..., None]
        return Mixture(logit, mean, log_std.clamp(-6, 3)), answer[..., -2], answer[..., -1]

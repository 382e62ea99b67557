"""MDN-RNN, the M of World Models: an LSTM that outputs a mixture of Gaussians (Ha & Schmidhuber 2018, A.2).

Mixture density networks: Bishop (1994); with an LSTM: Graves (2013). Every element of the next code has its own
mixture. The same network also predicts the reward of a step and whether the episode terminates with it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


class Mixture(NamedTuple):
    """Mixtures of K normal distributions, one mixture for each element of a code; tensors are `(..., Z, K)`.

    Attributes:
        logit: Logits of the component weights.
        mean: Means of the components.
        log_std: Logarithms of their standard deviations.
    """

    logit: Tensor
    mean: Tensor
    log_std: Tensor

    def log_likelihood(self, code: Tensor) -> Tensor:
        """Returns the log density of codes `(..., Z)`, for each element."""
        away = (code[..., None] - self.mean) * (-self.log_std).exp()
        each = -0.5 * away**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(self.logit.log_softmax(-1) + each, -1)

    def likeliest(self) -> Tensor:
        """Returns the mean of the component with the largest weight, `(..., Z)`."""
        return self._of(self.mean, self.logit.argmax(-1))

    def draw(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Samples codes.

        Args:
            noise: Uniform random numbers `(..., 2 Z)` in [0, 1). The first half selects the components, the second half
                the values within them; both use inverse transform sampling.
            temperature: Divides the logits of the weights and multiplies the variances, as in the paper. Towards 0 the
                sample becomes the mean of the most likely component.

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
    """LSTM with a mixture density head; see the module docstring.

    Args:
        latent: Size Z of a code.
        action: Size A of an action.
        memory: Width H of the LSTM.
        mixtures: Number K of components of a mixture.
    """

    def __init__(self, latent: int, action: int, memory: int, mixtures: int) -> None:
        super().__init__()
        self.latent, self.mixtures = latent, mixtures
        self.lstm = nn.LSTM(latent + action, memory, batch_first=True)
        bias: Any = self.lstm.bias_ih_l0
        with torch.no_grad():  # forget-gate bias of 1, so that little is forgotten at first (Jozefowicz et al. 2015)
            bias[memory : 2 * memory] = 1.0
        self.head = nn.Linear(memory, 3 * latent * mixtures + 2)
        # Consecutive codes are similar: a learned factor per element adds a share of the previous code to the means.
        self.kept = nn.Parameter(torch.zeros(latent))

    def cell(self, seen: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Advances the LSTM by one step.

        Args:
            seen: Codes and actions, `(B, Z + A)`.
            hidden: Hidden state of the LSTM, `(B, H)`.
            cell: Cell state of the LSTM, `(B, H)`.

        Returns:
            The next hidden and cell states, `(B, H)` each.
        """
        lstm: Any = self.lstm
        return self._update(F.linear(seen, lstm.weight_ih_l0, lstm.bias_ih_l0), hidden, cell)

    def _update(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the LSTM gates to projected inputs `(B, 4 H)`."""
        lstm: Any = self.lstm
        gates = projected + F.linear(hidden, lstm.weight_hh_l0, lstm.bias_hh_l0)
        enter, forget, fresh, leave = gates.float().chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * fresh.tanh()
        return leave.sigmoid() * cell.tanh(), cell

    def sequences(self, seen: PackedSequence) -> Tensor:
        """Runs the LSTM over whole sequences from a zero state, and returns its outputs `(N, H)`.

        The result equals that of `nn.LSTM`, in a third of its time on a CPU: the backward pass of `nn.LSTM` fills N
        rows of gradients for each step.

        Args:
            seen: Packed codes and actions, N rows in total.
        """
        lstm: Any = self.lstm
        steps = F.linear(seen.data, lstm.weight_ih_l0, lstm.bias_ih_l0).split(seen.batch_sizes.tolist())
        hidden = cell = seen.data.new_zeros(len(steps[0]), lstm.hidden_size)
        outputs = []
        for step in steps:
            hidden, cell = self._update(step, hidden[: len(step)], cell[: len(step)])
            outputs.append(hidden)
        return torch.cat(outputs)

    def predict(self, hidden: Tensor, code: Tensor) -> tuple[Mixture, Tensor, Tensor]:
        """Predicts the next step from the output of the LSTM.

        Args:
            hidden: Outputs of the LSTM, `(..., H)`.
            code: The current codes, `(..., Z)`.

        Returns:
            The mixtures of the next codes, the standardized rewards `(...)` and the termination logits `(...)`.
        """
        output = self.head(hidden).float()
        mixture = output[..., :-2].unflatten(-1, (3, self.latent, self.mixtures))
        logit, mean, log_std = mixture.unbind(-3)
        mean = mean + (self.kept * code)[..., None]
        return Mixture(logit, mean, log_std.clamp(-6, 3)), output[..., -2], output[..., -1]

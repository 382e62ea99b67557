"""V of World Models: the convolutional variational auto-encoder of Ha & Schmidhuber (2018, appendix A.1).

Kingma & Welling (2014) with free bits (Kingma et al. 2016): a number of the code costs nothing up to some nats, so that
none of them is given up ("posterior collapse").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SIDE = 64
"""Side of the pictures in pixels: the layers' sizes fit no other."""
ALIVE = 0.01
"""Variance of a code's mean over pictures from which on that number says something (Burda et al. 2016)."""


class Gaussian(NamedTuple):
    """Independent normal distributions of codes, `(..., Z)` each."""

    mean: Tensor
    log_std: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Draws codes."""
        return self.mean + self.log_std.exp() * torch.randn(self.mean.shape, generator=generator)

    def divergence(self) -> Tensor:
        """Returns the Kullback-Leibler divergence from unit normal distributions, in nats, `(..., Z)`."""
        return 0.5 * (self.mean**2 + (2 * self.log_std).exp() - 1) - self.log_std


class VAE(nn.Module):
    """Pictures `(B, 64, 64, 3)` uint8 to distributions of codes `(B, Z)`, and codes to pictures.

    Args:
        latent: Numbers Z of a code.
        channels: Channels after each of the four halvings; (32, 64, 128, 256) are the paper's.
    """

    def __init__(self, latent: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels
        self.encoder = nn.Sequential(  # 64, 31, 14, 6, 2
            nn.Conv2d(3, c1, 4, 2),
            nn.ReLU(),
            nn.Conv2d(c1, c2, 4, 2),
            nn.ReLU(),
            nn.Conv2d(c2, c3, 4, 2),
            nn.ReLU(),
            nn.Conv2d(c3, c4, 4, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * c4, 2 * latent)
        self.spread = nn.Linear(latent, 4 * c4)
        self.decoder = nn.Sequential(  # 1, 5, 13, 30, 64
            nn.ConvTranspose2d(4 * c4, c3, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(c3, c2, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(c2, c1, 6, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(c1, 3, 6, 2),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> Gaussian:
        """Encodes pictures `(B, 64, 64, 3)` uint8."""
        mean, log_std = self.head(self.encoder(images.permute(0, 3, 1, 2).float() / 255)).float().chunk(2, -1)
        return Gaussian(mean, log_std.clamp(-6, 2))

    def decode(self, code: Tensor) -> Tensor:
        """Draws codes `(B, Z)` as pictures `(B, 64, 64, 3)` float, 0 to 1."""
        return self.decoder(self.spread(code)[:, :, None, None]).permute(0, 2, 3, 1)

    def loss(
        self, images: Tensor, free_nats: float, weight: Tensor | float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Squared errors of all pixels, added up, and the divergence of each number of the code beyond what is free.

        Args:
            images: `(B, 64, 64, 3)` uint8.
            free_nats: Divergence, as a mean over the batch, up to which a number of the code costs nothing.
            weight: Of squared errors, `(B, 64, 64, 1)` or a number; 1 is the paper's.
            generator: Source of the codes' noise.
        """
        code = self.encode(images)
        target = images.float() / 255
        error = (weight * (self.decode(code.draw(generator)).float() - target) ** 2).sum() / len(images)
        return error + code.divergence().mean(0).clamp(min=free_nats).sum()

"""Convolutional variational auto-encoder, the V of World Models (Ha & Schmidhuber 2018, appendix A.1).

VAE of Kingma & Welling (2014) with free bits (Kingma et al. 2016): the divergence of each element of the code is free
up to a number of nats, which prevents posterior collapse.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SIDE = 64
"""Side of the images in pixels; the layer sizes are fixed for it."""
ALIVE = 0.01
"""An element of the code is active if its posterior mean varies by more than this over images (Burda et al. 2016)."""


class Gaussian(NamedTuple):
    """Independent normal distributions of codes, `(..., Z)` each."""

    mean: Tensor
    log_std: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Samples codes."""
        source = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=source)
        return self.mean + self.log_std.exp() * noise.to(self.mean.device)

    def divergence(self) -> Tensor:
        """Returns the Kullback-Leibler divergence to the standard normal distribution, in nats, `(..., Z)`."""
        return 0.5 * (self.mean**2 + (2 * self.log_std).exp() - 1) - self.log_std


class VAE(nn.Module):
    """Encodes images `(B, 64, 64, 3)` uint8 as distributions of codes `(B, Z)`, and decodes codes into images.

    Args:
        latent: Size Z of a code.
        channels: Channels after each of the four downsamplings; the paper uses (32, 64, 128, 256).
    """

    def __init__(self, latent: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels
        self.encoder = nn.Sequential(  # image sides: 64, 31, 14, 6, 2
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
        self.decoder = nn.Sequential(  # image sides: 1, 5, 13, 30, 64
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
        """Encodes images `(B, 64, 64, 3)` uint8 into distributions of codes `(B, Z)`."""
        mean, log_std = self.head(self.encoder(images.permute(0, 3, 1, 2).float() / 255)).float().chunk(2, -1)
        return Gaussian(mean, log_std.clamp(-6, 2))

    def decode(self, code: Tensor) -> Tensor:
        """Decodes codes `(B, Z)` into images `(B, 64, 64, 3)` float in [0, 1]."""
        return self.decoder(self.spread(code)[:, :, None, None]).permute(0, 2, 3, 1)

    def loss(
        self, images: Tensor, free_nats: float, weight: Tensor | float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns the loss: the squared errors summed over pixels, plus the divergence of each code element.

        Args:
            images: `(B, 64, 64, 3)` uint8.
            free_nats: Divergence in nats, as a mean over the batch, below which an element of the code costs nothing
                extra (free bits).
            weight: Weight of the squared errors, `(B, 64, 64, 1)` or a number; the paper uses 1.
            generator: Random generator for the noise of the codes.
        """
        code = self.encode(images)
        target = images.float() / 255
        error = (weight * (self.decode(code.draw(generator)).float() - target) ** 2).sum() / len(images)
        return error + code.divergence().mean(0).clamp(min=free_nats).sum()

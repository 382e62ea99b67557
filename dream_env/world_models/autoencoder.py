"""The local convolutional auto-encoder: a picture becomes a small map of tokens, and back.

A map keeps small, still objects that a single latent vector forgets (DINO-WM, Zhou et al. 2024, and V-JEPA 2-AC,
Assran et al. 2025, predict patch tokens for the same reason). Both halves work on the difference to a background
picture, so an empty table costs the tokens nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AutoEncoder(nn.Module):
    """Pictures `(B, 64, 64, 3)` uint8 to tokens `(B, grid * grid, channels)` of unit variance, and back.

    Three convolutions of stride 2 with a receptive field of 22 pixels, mirrored by the decoder. A linear layer makes
    the tokens of what they see, each of its own part of the picture; with `grid` 1 it is the bottleneck of a common
    auto-encoder, and the one token a vector.

    Args:
        channels: Channels of one token.
        widths: Channels after the first, second and third halving of the picture.
        image_size: Side of the pictures in pixels, a multiple of 8.
        grid: Side of the token map; divides `image_size // 8`.

    Raises:
        ValueError: If the grid does not divide the picture.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int], image_size: int, grid: int = 8) -> None:
        super().__init__()
        w1, w2, w3 = widths
        side = image_size // 8
        if grid < 1 or side % grid:
            raise ValueError(f"grid={grid}; accepted: a divisor of {side}")
        self.grid, part = grid, side // grid
        self.encoder: nn.Module = nn.Sequential(
            nn.Conv2d(3, w1, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(w1, w2, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(w2, w3, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(w3, channels, part, part),
        )
        self.normalize = nn.BatchNorm2d(channels, affine=False)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, w3, 3, 1, 1) if part == 1 else nn.ConvTranspose2d(channels, w3, part, part),
            nn.SiLU(),
            nn.ConvTranspose2d(w3, w2, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(w2, w1, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(w1, 3, 4, 2, 1),
        )
        self.background: Tensor
        self.register_buffer("background", torch.full((image_size, image_size, 3), 0.5))

    def prepare(self, images: Tensor) -> None:
        """Takes the background from pictures `(N, H, W, 3)` uint8, before any training."""
        self.background.copy_(images.median(0).values.float() / 255)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes pictures `(B, H, W, 3)` uint8 into tokens `(B, T, C)`, row by row of the grid.

        In training mode the statistics of the batch normalize the tokens, else the frozen ones.
        """
        difference = images.float() / 255 - self.background
        features = self.encoder(difference.permute(0, 3, 1, 2))
        return self.normalize(features).permute(0, 2, 3, 1).flatten(1, 2)

    def decode(self, tokens: Tensor) -> Tensor:
        """Draws tokens `(B, T, C)` as pictures `(B, H, W, 3)` float, 0 to 1 up to the network's error."""
        features = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        return self.decoder(features).permute(0, 2, 3, 1) + self.background

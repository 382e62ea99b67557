"""Convolutional auto-encoder that maps an image to a small grid of tokens, and back.

A token map keeps small, static objects that a single latent vector tends to lose (DINO-WM, Zhou et al. 2024, and
V-JEPA 2-AC, Assran et al. 2025, predict patch tokens for the same reason). Encoder and decoder work on the difference
to a background image, so no token capacity is spent on the static background.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AutoEncoder(nn.Module):
    """Encodes images `(B, S, S, 3)` uint8 as tokens `(B, grid * grid, channels)` of unit variance, and decodes them.

    Three convolutions of stride 2 with a receptive field of 22 pixels, mirrored by the decoder. A linear layer then
    projects each cell of the grid to one token. With `grid=1` it is the bottleneck of an ordinary auto-encoder, and the
    single token is a latent vector.

    Args:
        channels: Channels of one token.
        widths: Channels after the first, second and third downsampling of the image.
        image_size: Side S of the images in pixels, a multiple of 8.
        grid: Side of the token map; must divide `image_size // 8`.

    Raises:
        ValueError: If the grid does not divide the image.
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
        """Sets the background to the median of images `(N, H, W, 3)` uint8; call it before training."""
        self.background.copy_(images.median(0).values.float() / 255)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images `(B, H, W, 3)` uint8 into tokens `(B, T, C)`, in row-major order of the grid.

        Tokens are normalized by batch statistics in training mode, and by the running statistics in eval mode.
        """
        difference = images.float() / 255 - self.background
        features = self.encoder(difference.permute(0, 3, 1, 2))
        return self.normalize(features).permute(0, 2, 3, 1).flatten(1, 2)

    def decode(self, tokens: Tensor) -> Tensor:
        """Decodes tokens `(B, T, C)` into images `(B, H, W, 3)` float; values are about 0 to 1, but not clipped."""
        features = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        return self.decoder(features).permute(0, 2, 3, 1) + self.background

"""Projections from a pretrained backbone to the tokens and the instruction embeddings of a world model.

They are fitted once, without labels, and saved with the world model. The weights of the backbone are not copied;
`config.json` only names them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM, to_length
from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.backbone import VisionLanguageBackbone

_PICTURES = 32
"""Batch size of the backbone while the projection is fitted, in images."""


class PretrainedAutoEncoder(AutoEncoder):
    """An auto-encoder with a frozen pretrained vision encoder and a projection; only the decoder is trained.

    Args:
        vision: Folder of the encoder, see `dream_env.world_models.backbone.VisionLanguageBackbone`.
        channels: Channels of one token.
        widths: Channels of the decoder, as in `AutoEncoder`.
        image_size: Side of the images in pixels, a multiple of 8.
        grid: Side of the token map; must divide `image_size // 8`.
    """

    def __init__(
        self, vision: str, channels: int, widths: tuple[int, int, int], image_size: int, grid: int = 8
    ) -> None:
        super().__init__(channels, widths, image_size, grid)
        self.encoder: PatchProjection = PatchProjection(vision, channels, grid)

    def prepare(self, images: Tensor) -> None:
        """Fits the projection to images `(N, H, W, 3)` uint8, and sets the background from them."""
        super().prepare(images)
        self.encoder.fit(images)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images `(B, H, W, 3)` uint8 into tokens `(B, T, C)`, in row-major order of the grid.

        Tokens are normalized by batch statistics in training mode, and by the running statistics in eval mode.
        """
        return self.normalize(self.encoder(images)).permute(0, 2, 3, 1).flatten(1, 2)


class PatchProjection(nn.Module):
    """Maps images to a small grid of principal components of a backbone's patch features.

    The mean feature of each grid cell is subtracted first, so that the few channels describe what changes. The learned
    encoder does the same by working on differences to the background.

    Args:
        vision: Folder of the vision encoder.
        channels: Number of principal components.
        grid: Side of the map; patch features are interpolated to it.

    Raises:
        ValueError: If there are more channels than features.
    """

    def __init__(self, vision: str, channels: int, grid: int) -> None:
        super().__init__()
        self.backbone = VisionLanguageBackbone(vision=vision)
        dim = self.backbone.vision_dim
        if channels > dim:
            raise ValueError(f"channels={channels}; accepted: at most {dim}, the features of vision={vision!r}")
        self.grid = grid
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(dim, grid, grid))
        self.axes: Tensor
        self.register_buffer("axes", _random_axes(channels, dim))

    def fit(self, images: Tensor) -> None:
        """Fits the mean map and the principal axes, scaled to unit variance, to images `(N, H, W, 3)` uint8."""
        maps = torch.cat([self._maps(part) for part in images.split(_PICTURES)])
        self.mean.copy_(maps.mean(0))
        rows = (maps - self.mean).permute(0, 2, 3, 1).flatten(0, 2)
        axes = principal_axes(rows, len(self.axes))
        self.axes.copy_(axes / (rows @ axes.T).std(0).clamp_min(1e-6)[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Maps images `(B, H, W, 3)` uint8 to components `(B, channels, grid, grid)`."""
        return torch.einsum("cd,bdhw->bchw", self.axes, self._maps(images) - self.mean)

    def _maps(self, images: Tensor) -> Tensor:
        patches = self.backbone.patches(images)
        return F.interpolate(patches, (self.grid, self.grid), mode="bilinear", antialias=True)


class SentenceProjection(nn.Module):
    """Maps sentences to instruction embeddings: principal components of a text encoder's features.

    Args:
        text: Folder of the text encoder, see `dream_env.world_models.backbone.VisionLanguageBackbone`.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.backbone = VisionLanguageBackbone(text=text)
        dim = self.backbone.text_dim
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.axes: Tensor
        self.register_buffer("axes", _random_axes(INSTRUCTION_DIM, dim))
        self._features: dict[str, Tensor] = {}

    def fit(self, sentences: Iterable[str]) -> None:
        """Fits the mean and the principal axes to sentences, so that the embedding captures how they differ."""
        rows = torch.stack([self._feature(sentence) for sentence in sentences])
        self.mean.copy_(rows.mean(0))
        self.axes.copy_(principal_axes(rows - rows.mean(0), INSTRUCTION_DIM))

    @torch.no_grad()
    def embed(self, sentence: str) -> np.ndarray:
        """Embeds a sentence in the format of `dream_env.language.embed`: `(64,)` float32 in [-1, 1]."""
        return to_length((self.axes.cpu() @ (self._feature(sentence) - self.mean.cpu())).numpy())

    def _feature(self, sentence: str) -> Tensor:
        if sentence not in self._features:
            self._features[sentence] = self.backbone.sentence(sentence)
        return self._features[sentence]


def principal_axes(rows: Tensor, count: int) -> Tensor:
    """Returns the first `count` principal axes `(count, D)` of centered rows `(N, D)`; zero-padded if count > D."""
    rows = rows.double()
    vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T[:count]
    return F.pad(vectors, (0, 0, 0, count - len(vectors))).to(torch.float32)


def _random_axes(count: int, dim: int) -> Tensor:
    """Returns fixed random axes `(count, dim)`, used until the projection is fitted."""
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0)) / dim**0.5

"""What stands between a pretrained backbone and the world model: projections to its tokens and its instructions.

They are fitted once, without labels, and saved with the world model; the backbone's own weights stay where they are,
and `config.json` names them.
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
"""Pictures that pass the backbone at a time while the projection is fitted."""


class PretrainedAutoEncoder(AutoEncoder):
    """An auto-encoder whose first half is a frozen pretrained vision encoder; only the decoder is trained.

    Args:
        vision: Folder of the encoder, see `dream_env.world_models.backbone.VisionLanguageBackbone`.
        channels: Channels of one token.
        widths: Channels of the decoder, as in `AutoEncoder`.
        image_size: Side of the pictures in pixels, a multiple of 8.
        grid: Side of the token map; divides `image_size // 8`.
    """

    def __init__(
        self, vision: str, channels: int, widths: tuple[int, int, int], image_size: int, grid: int = 8
    ) -> None:
        super().__init__(channels, widths, image_size, grid)
        self.encoder: PatchProjection = PatchProjection(vision, channels, grid)

    def prepare(self, images: Tensor) -> None:
        """Fits the projection to pictures `(N, H, W, 3)` uint8, and takes the background from them."""
        super().prepare(images)
        self.encoder.fit(images)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes pictures `(B, H, W, 3)` uint8 into tokens `(B, T, C)`, row by row of the grid.

        In training mode the statistics of the batch normalize the tokens, else the frozen ones.
        """
        return self.normalize(self.encoder(images)).permute(0, 2, 3, 1).flatten(1, 2)


class PatchProjection(nn.Module):
    """Pictures to a small map of the principal components of a backbone's patch features.

    What a place looks like in the mean is taken off first, so that the few channels are spent on what comes and goes,
    as the learned encoder works on differences to the background.

    Args:
        vision: Folder of the vision encoder.
        channels: Number of components.
        grid: Side of the map; the patches are interpolated to it.

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
        """Takes the mean map and the principal axes of pictures `(N, H, W, 3)` uint8, for tokens of unit variance."""
        maps = torch.cat([self._maps(part) for part in images.split(_PICTURES)])
        self.mean.copy_(maps.mean(0))
        rows = (maps - self.mean).permute(0, 2, 3, 1).flatten(0, 2)
        axes = principal_axes(rows, len(self.axes))
        self.axes.copy_(axes / (rows @ axes.T).std(0).clamp_min(1e-6)[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures `(B, H, W, 3)` uint8 to `(B, channels, grid, grid)`."""
        return torch.einsum("cd,bdhw->bchw", self.axes, self._maps(images) - self.mean)

    def _maps(self, images: Tensor) -> Tensor:
        patches = self.backbone.patches(images)
        return F.interpolate(patches, (self.grid, self.grid), mode="bilinear", antialias=True)


class SentenceProjection(nn.Module):
    """Sentences to instruction embeddings: the principal components of a text encoder's features.

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
        """Takes mean and principal axes of sentences: what they differ in is what the embedding tells apart."""
        rows = torch.stack([self._feature(sentence) for sentence in sentences])
        self.mean.copy_(rows.mean(0))
        self.axes.copy_(principal_axes(rows - rows.mean(0), INSTRUCTION_DIM))

    @torch.no_grad()
    def embed(self, sentence: str) -> np.ndarray:
        """Embeds a sentence as `dream_env.language.embed` does: `(64,)` float32 in [-1, 1]."""
        return to_length((self.axes.cpu() @ (self._feature(sentence) - self.mean.cpu())).numpy())

    def _feature(self, sentence: str) -> Tensor:
        if sentence not in self._features:
            self._features[sentence] = self.backbone.sentence(sentence)
        return self._features[sentence]


def principal_axes(rows: Tensor, count: int) -> Tensor:
    """Returns the first `count` principal axes `(count, D)` of centered rows `(N, D)`; zeros where there are fewer."""
    rows = rows.double()
    vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T[:count]
    return F.pad(vectors, (0, 0, 0, count - len(vectors))).to(torch.float32)


def _random_axes(count: int, dim: int) -> Tensor:
    """Returns random axes `(count, dim)`, always the same: what an encoder that was never fitted looks along."""
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0)) / dim**0.5

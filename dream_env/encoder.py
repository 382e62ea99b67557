"""A world model's encoder on one picture at a time: what physics shows of an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dream_env import rewards


class PictureEncoder:
    """The world model's encoder on one picture, in numpy."""

    def __init__(self, world_model: Any) -> None:
        from dream_env.world_models.checkpoint import load

        self.model = load(world_model) if isinstance(world_model, str | Path) else world_model
        self.dim: int = self.model.embedding_dim

    def metric(self) -> rewards.Metric:
        """Returns the world model's learned metric."""
        from dream_env.nicol.world_model.metric import learned_metric

        return learned_metric(self.model)

    def __call__(self, image: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        """Encodes a picture `(H, W, 3)` uint8 into an embedding `(E,)` float32."""
        import torch

        with torch.inference_mode():
            device = self.model.device
            images = torch.from_numpy(image[None]).to(device)
            state = self.model.encode(images, torch.from_numpy(proprio[None]).to(device))
            return self.model.embedding(state)[0].cpu().numpy()

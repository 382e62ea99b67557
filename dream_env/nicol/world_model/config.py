"""Configuration of the state-grounded world model; importing it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.checks import check_number

DYNAMICS = (
    "width",
    "blocks",
    "ensemble",
    "head_width",
    "arm_renderer_width",
    "cube_heatmaps",
    "dynamics_width",
    "mixture_components",
)
"""Fields of `StateGroundedConfig` that affect only the predictor and the object dynamics."""


@dataclass(frozen=True)
class StateGroundedConfig:
    """Architecture and thresholds of a `StateGroundedModel`."""

    channels: int = 16
    """Channels of one token."""
    autoencoder_widths: tuple[int, int, int] = (32, 64, 64)
    """Channels of the encoder after each halving of the resolution; the decoder mirrors them."""
    width: int = 32
    """Width of the predictor's trunk."""
    blocks: int = 2
    """Residual blocks of the predictor's trunk."""
    ensemble: int = 3
    """Number of ensemble members: heads of the predictor, and networks of the object dynamics. Their mean is the
    prediction of a step, their variance the disagreement."""
    head_width: int = 48
    """Hidden width of one head."""
    arm_renderer_width: int = 192
    """Hidden width of the predictor's arm renderer; 0 for no arm renderer."""
    cube_heatmaps: bool = True
    """Adds a Gaussian heatmap of each cube's position, before and after the step, to the input of the predictor's
    trunk."""
    dynamics_width: int = 128
    """Hidden width of the object dynamics."""
    mixture_components: int = 2
    """Number of components of the object dynamics' mixture, for different outcomes of a contact (such as held or
    slipped)."""
    painter_width: int = 0
    """Width of the decoder that draws cubes and arm at the positions of the object state; 0 decodes the tokens only."""
    success_width: int = 64
    """Hidden width of the success head."""
    success_threshold: float = 0.5
    """Probability at and above which the predicted condition counts as met; `agents.fit` sets it on held-out
    episodes."""
    metric_dim: int = 64
    """Dimension of the learned metric's embedding."""
    metric_widths: tuple[int, ...] = (128, 128, 128)
    """Hidden widths of the learned metric."""
    disagreement_threshold: float | None = None
    """Disagreement above which the ensemble is considered out of distribution; `agents.fit` sets it on held-out
    episodes."""
    vision: str | None = None
    """Folder of a pretrained vision encoder that computes the tokens (V-JEPA 2, DINOv2, SigLIP, ...; needs the extra
    `vla`); None trains an encoder."""
    text: str | None = None
    """Folder of a pretrained text encoder that embeds the instructions; None uses the package's word vectors."""

    def __post_init__(self) -> None:
        """Checks the values that building a model does not check."""
        check_number("success_threshold", self.success_threshold, high=1)
        if self.disagreement_threshold is not None:
            check_number("disagreement_threshold", self.disagreement_threshold)

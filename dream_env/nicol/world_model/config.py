"""Every number of the state-grounded world model; importing it loads no torch."""

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
"""Numbers of `StateGroundedConfig` that fix predictor and object dynamics and nothing else."""


@dataclass(frozen=True)
class StateGroundedConfig:
    """Every number that fixes the architecture of a `StateGroundedModel`."""

    channels: int = 16
    """Channels of one token."""
    autoencoder_widths: tuple[int, int, int] = (32, 64, 64)
    """Channels after each halving of the picture; the decoder mirrors them."""
    width: int = 32
    """Width of the predictor's trunk."""
    blocks: int = 2
    """Residual blocks of the predictor's trunk."""
    ensemble: int = 3
    """Heads of the predictor, and networks of the object dynamics: their mean is the step, their variance the
    disagreement."""
    head_width: int = 48
    """Hidden width of one head."""
    arm_renderer_width: int = 192
    """Hidden width of the predictor's arm renderer; 0 for none."""
    cube_heatmaps: bool = True
    """Draws where the cubes are and will be into the input of the predictor's trunk, a Gaussian for each."""
    dynamics_width: int = 128
    """Hidden width of the object dynamics."""
    mixture_components: int = 2
    """What may come of a contact, such as held and slipped: components of the object dynamics' mixture."""
    painter_width: int = 0
    """Width of the decoder that draws cubes and arm where the object state has them; 0 draws of the tokens alone."""
    success_width: int = 64
    """Hidden width of the success head."""
    success_threshold: float = 0.5
    """Probability from which on a dream counts its condition as met; `agents.fit` sets it on held-out episodes."""
    metric_dim: int = 64
    """Length of the learned metric's vectors."""
    metric_widths: tuple[int, ...] = (128, 128, 128)
    """Hidden widths of the learned metric."""
    disagreement_threshold: float | None = None
    """Disagreement above which a step leaves what the ensemble knows; `agents.fit` sets it on held-out episodes."""
    vision: str | None = None
    """Folder of a pretrained vision encoder that makes the tokens (V-JEPA 2, DINOv2, SigLIP, ...; needs the extra
    `vla`); None learns one."""
    text: str | None = None
    """Folder of a pretrained text encoder that embeds the instructions; None takes the package's word vectors."""

    def __post_init__(self) -> None:
        """Checks what building a model does not."""
        check_number("success_threshold", self.success_threshold, high=1)
        if self.disagreement_threshold is not None:
            check_number("disagreement_threshold", self.disagreement_threshold)

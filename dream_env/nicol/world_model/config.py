"""Every number of the state-grounded world model; importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dream_env.checks import check_number

Proprio = Literal["integrated", "learned"]

PREDICTOR = ("width", "blocks", "ensemble", "head_width", "sketch", "interaction", "futures", "proprio")
"""Numbers of `StateGroundedConfig` that fix the predictor and nothing else."""


@dataclass(frozen=True)
class StateGroundedConfig:
    """Every number that fixes the architecture of a `StateGroundedModel`."""

    grid: int = 8
    """Side of the token map: 8, 4, 2, or 1, which makes the state one vector. With 2 or 1 rows are independent of each
    other up to rounding, else bit for bit."""
    channels: int = 16
    """Channels of one token."""
    autoencoder_widths: tuple[int, int, int] = (32, 64, 64)
    """Channels after each halving of the picture; the decoder mirrors them."""
    width: int = 32
    """Width of the predictor's trunk."""
    blocks: int = 2
    """Residual blocks of the predictor's trunk."""
    ensemble: int = 3
    """Heads of the predictor, and networks of its interaction: their mean is the step, their variance the
    disagreement."""
    head_width: int = 48
    """Hidden width of one head."""
    sketch: int = 192
    """Hidden width of the predictor's sketch of the arm; 0 for none."""
    interaction: int = 128
    """Hidden width of what tells the predictor where hand and cubes will be, from where the metric's reader saw them at
    first; 0 leaves it to the predictor."""
    futures: int = 2
    """What may come of a contact: futures of every cube that its networks tell apart, such as held and slipped."""
    proprio: Proprio = "integrated"
    """Whether the set-point moves by the controller's own rule, or as the predictor learned it."""
    success_width: int = 64
    """Hidden width of the success head."""
    success_reads: bool = True
    """Whether the success head is told what the metric's reader reads, if there is one."""
    success_threshold: float = 0.5
    """Probability from which on a dream counts its condition as met; `agents.fit` sets it on held-out episodes."""
    metric_dim: int = 64
    """Length of the learned metric's vectors; 0 has none, as models from before it."""
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

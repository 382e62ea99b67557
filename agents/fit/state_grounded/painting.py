"""Stage of `agents.fit` that trains the painter, which decodes states of frames and of rollouts to pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dream_env.agents.fit import distributed
from dream_env.agents.fit.constants import CHANGED
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.dynamics import fit_cube_projection
from dream_env.agents.fit.state_grounded.stages import drawn_again, dream, strip
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, Episodes, true_object_state
from dream_env.nicol.world_model.model import StateGroundedModel

WIDTH = 16
"""Width of a new painter."""


def painter_stage(
    args: Arguments, model: StateGroundedModel, episodes: Episodes, rows: Tensor, train: EncodedDataset, held: Tensor
) -> Stage:
    """Returns the stage that trains the painter on frames, half of them with tokens from rollouts.

    The painter is given the true positions of hand and cubes, so that it learns to draw them there even if the tokens
    show them only weakly. The loss is the absolute error, because with squared error pictures become a pale mean of the
    possible ones.

    Args:
        args: See `Arguments`.
        model: The world model.
        episodes: Recorded episodes.
        rows: Indices of the training episodes.
        train: The training episodes, encoded.
        held: Indices of the held-out episodes.
    """
    painter = model.painter
    assert painter is not None
    truth, dreamt = true_object_state(train)[0], dream(model, train, len(rows)).tokens
    background = model.autoencoder.background

    def begin() -> None:
        if not painter.projection.projection.weight.any():
            fit_cube_projection(
                painter.projection, model.state_estimator, train.take(torch.arange(min(len(rows), 200)))
            )

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        half, frames = max(1, args.painter_batch // 2), train.tokens.shape[1]
        n = torch.randint(len(rows), (2 * half,), generator=generator)
        t = torch.randint(frames, (2 * half,), generator=generator)
        tokens = torch.cat([train.tokens[n[:half], t[:half]].float(), dreamt[n[half:], t[half:]].float()])
        images = torch.from_numpy(episodes.images[rows[n].numpy(), t.numpy()])
        batch = distributed.share(tokens, train.proprio[n, t], truth[n, t], images, device=args.device)
        target = batch[3].float() / 255 - background.to(batch[3].device)
        error = (painter(*batch[:3]).float() - target).abs()
        return (error * (1 + (args.pixel_weight - 1) * (target.abs().amax(-1, keepdim=True) > CHANGED))).mean()

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        real, drawn = drawn_again(model, episodes, held)
        error = (drawn.float() - real.float()).abs().mean()
        return {"absolute_error_of_255": float(error), "pictures": strip(real, drawn)}

    return Stage(
        "painter",
        painter,
        loss,
        args.painter_updates,
        args.painter_rate,
        args.share("painter"),
        args.average,
        begin,
        report=report,
    )

"""Stage of `agents.fit` that trains encoder and predictor jointly: latent prediction without collapse."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dream_env.agents.fit import distributed
from dream_env.agents.fit.state_grounded import losses
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.dynamics import fit_hand_projection
from dream_env.agents.fit.state_grounded.stages import autoencoder_stage
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.nicol.encoded_dataset import Episodes
from dream_env.nicol.world_model.model import StateGroundedModel

HORIZON = 3
"""Steps that are predicted from every first frame."""
VARIANCE, COVARIANCE = 1.0, 0.04
"""Loss weights relative to the prediction error; the ratios are those of VICReg (Bardes et al. 2022, section 4.2):
25, 25 and 1."""
PIXELS = 20.0
"""Weight of the decoder's loss, which is smaller than the other losses by about this factor."""


def joint_stage(
    args: Arguments, model: StateGroundedModel, episodes: Episodes, rows: Tensor, held_rows: Tensor
) -> Stage:
    """Returns the stage that trains encoder and predictor on windows of pictures, instead of `autoencoder_stage`.

    The tokens are trained to be predictable `HORIZON` steps ahead. Gradients also flow into the targets; VICReg's terms
    prevent a collapse to constant tokens. The decoder reconstructs the first frames of the windows; its gradients reach
    the encoder only with the objective "both", not with "latent".
    """
    autoencoder, predictor = model.autoencoder, model.predictor
    base = autoencoder_stage(args, model, episodes, rows, held_rows)
    frames = episodes.images.shape[1]
    length = min(HORIZON, frames - 1)

    def windows(n: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns pictures and set-points of frames t of episodes n."""
        index = n.numpy(), t.numpy()
        return torch.from_numpy(episodes.images[index]), torch.from_numpy(episodes.proprio[index])

    def begin() -> None:
        base.begin()
        if args.init and not args.new_predictor:
            return
        sample = rows[:20, None].expand(-1, frames)
        images, proprio = windows(sample, torch.arange(frames).expand_as(sample))
        with torch.no_grad():
            autoencoder.train()
            tokens = autoencoder.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        fit_hand_projection(predictor, tokens, proprio)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        count = max(2, args.autoencoder_batch // (length + 1))
        n = rows[torch.randint(len(rows), (count, 1), generator=generator)]
        t = torch.randint(frames - length, (count, 1), generator=generator) + torch.arange(length + 1)
        images, proprio = windows(n.expand_as(t), t)
        action = torch.from_numpy(episodes.action[n.numpy(), t[:, :-1].numpy()])
        images, proprio, action = distributed.share(images, proprio, action, device=args.device)
        tokens = autoencoder.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        predicted = losses.rollout_loss(model, tokens, proprio, action, generator, args.rollout_noise)
        variance, covariance = spread(distributed.gather(tokens.flatten(0, 1).float()))
        seen = tokens[:, 0] if args.objective == "both" else tokens[:, 0].detach()
        seen = losses.noisy(seen, generator, args.token_noise)
        drawn = losses.reconstruction_loss(autoencoder, seen, images[:, 0], args.pixel_weight)
        return predicted + VARIANCE * variance + COVARIANCE * covariance + PIXELS * drawn

    return replace(base, name="joint", module=nn.ModuleList([autoencoder, predictor]), loss=loss, begin=begin)


def spread(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Returns VICReg's variance and covariance terms (Bardes et al. 2022, equations 1 to 4) of tokens `(B, T, C)`.

    The variance term pushes the standard deviation of every entry of the token map, over pictures, to at least 1. The
    covariance term decorrelates the channels of a token, over all positions, because channels mean the same everywhere.
    """
    deviation = (tokens.var(0) + 1e-4).sqrt()
    variance = (1 - deviation).clamp_min(0).mean()
    channels = (tokens - tokens.mean(0)).flatten(0, 1)
    products = channels.T @ channels / (len(channels) - 1)
    covariance = (products.square().sum() - products.diagonal().square().sum()) / len(products)
    return variance, covariance

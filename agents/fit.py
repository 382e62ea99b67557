"""Fits the default world model to recorded episodes: `python -m agents.fit --data DIR --out DIR`.

Three stages, each on the frozen result of the one before: the auto-encoder; the predictor, on all frames encoded once;
the success head, on encoded and on dreamt states, so that it is calibrated where it is used. A killed run goes on when
the same command is given again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from dream_env.agents import fit_losses, model_metrics
from dream_env.agents.hindsight import Hindsight
from dream_env.agents.latents import Episodes, Latents, encode_episodes
from dream_env.agents.outcomes import write_text
from dream_env.agents.trainer import Run, Stage
from dream_env.bank import StartBank
from dream_env.episodes import EpisodeDataset
from dream_env.world_models import checkpoint
from dream_env.world_models.latent import LatentConfig, LatentWorldModel
from dream_env.world_models.protocol import LatentState

SHARES = {"autoencoder": 0.3, "predictor": 0.6, "success": 0.1}
"""Parts of `--minutes` that the stages get."""


@dataclass(frozen=True)
class Arguments:
    """Fits a world model to recorded episodes: auto-encoder, predictor, success head."""

    data: Path
    """Folder of the episodes, written by `python -m agents.collect`."""
    out: Path
    """Folder of the checkpoint, of metrics.json, the curves (tensorboard/) and the run's state (last/)."""
    init: Path | None = None
    """Checkpoint to start from, with its architecture; None starts from random weights. With
    --autoencoder-updates 0 the embedding stays what it was, so policies keep their eyes."""
    minutes: float | None = None
    """Length of the fit in minutes instead of updates; such a run cannot be repeated exactly."""
    autoencoder_updates: int = 5000
    """Updates of the auto-encoder; 0 keeps that of --init."""
    predictor_updates: int = 5000
    """Updates of the predictor; 0 keeps that of --init."""
    success_updates: int = 4000
    """Updates of the success head; 0 keeps that of --init."""
    autoencoder_batch: int = 64
    """Pictures per update."""
    predictor_batch: int = 512
    """Predicted steps per update: windows times their length."""
    success_batch: int = 256
    """States per update, half encoded and half dreamt."""
    horizons: tuple[int, ...] = (2, 4, 8)
    """Lengths of the predictor's rollouts, for equal parts of the stage."""
    pixel_weight: float = 16.0
    """Weight of pixels that differ from the background."""
    token_noise: float = 0.1
    """Noise on the tokens that the decoder sees."""
    rollout_noise: float = 0.05
    """Noise on the first tokens of a rollout."""
    autoencoder_rate: float = 2e-3
    """Peak learning rate of the auto-encoder."""
    predictor_rate: float = 2e-3
    """Peak learning rate of the predictor."""
    success_rate: float = 3e-3
    """Peak learning rate of the success head."""
    average: float = 0.995
    """Decay of the averaged weights that are kept."""
    held_out: float = 0.05
    """Part of the episodes that is measured on and not trained on."""
    test: Path | None = None
    """Folder of other episodes to take the final figures on; None takes the held-out ones."""
    false_positives: float = 0.02
    """Rate of false alarms in dreamt states at which success_threshold is set."""
    probe_updates: int = 1500
    """Updates of each probe of the final measurement."""
    bank: int = 300
    """Episodes per task whose starts and goals are kept beside the weights, for dreams to begin with."""
    seed: int = 0
    """Seed of weights, batches and split."""
    threads: int = 2
    """Threads of torch; one more than there are idle cores is slower than one."""
    bfloat16: bool = True
    """Trains in mixed precision; slow on a CPU without avx512_bf16."""
    model: LatentConfig = field(default_factory=LatentConfig)
    """Architecture, without --init."""

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run, JSON-able."""
        values = {k: v for k, v in asdict(self).items() if k not in ("out", "threads")}
        return values | {"data": str(self.data.resolve()), "init": str(self.init), "test": str(self.test)}


def fit(args: Arguments, episodes: Episodes, save_seconds: float = 60.0) -> dict[str, Any]:
    """Fits a world model, writes it into `args.out` and returns its figures.

    Args:
        args: See `Arguments`.
        episodes: The data; `args.data` only names it.
        save_seconds: Time between two saves of the run's state.

    Raises:
        ValueError: If there are fewer than two episodes, or `args.out` holds a run with other settings.
    """
    count = len(episodes.images)
    if count < 2:
        raise ValueError(f"data={args.data} holds {count} episodes; accepted: at least 2")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = LatentWorldModel(args.model)
    if args.init:
        trained = checkpoint.load(args.init)
        model = LatentWorldModel(trained.config)
        model.load_state_dict(trained.state_dict())
    run = Run(
        model,
        args.out,
        args.settings(),
        seed=args.seed,
        bfloat16=args.bfloat16,
        save_seconds=save_seconds,
    )
    order = torch.from_numpy(np.random.default_rng(args.seed).permutation(count))
    held = max(1, round(args.held_out * count))
    rows, held_rows = order[held:], order[:held]

    run.train(_autoencoder_stage(args, model, episodes, rows, held_rows))
    model.eval()
    latents = encode_episodes(model, episodes)
    train, held_out = latents.take(rows), latents.take(held_rows)
    del latents
    run.train(_predictor_stage(args, model, train, held_out, episodes.images[int(held_rows[0])]))
    model.eval()
    if args.success_updates:
        run.train(_success_stage(args, model, train, held_out, Hindsight(episodes), rows))
        model.eval()
        calibrate(model, held_out, args.false_positives)
    threshold = model.config.success_threshold
    if args.test:
        held_out = encode_episodes(model, EpisodeDataset.load(args.test))
    figures = {
        "episodes": {"train": len(rows), "held_out": len(held_out.tokens)},
        "parameters": sum(p.numel() for p in model.parameters()),
        **model_metrics.measure(model, train, held_out, threshold, args.probe_updates),
    }
    checkpoint.save(model, args.out, card(args, figures))
    write_text(args.out / "metrics.json", json.dumps(figures, indent=2) + "\n")
    return figures


def _autoencoder_stage(
    args: Arguments, model: LatentWorldModel, episodes: Episodes, rows: Tensor, held_rows: Tensor
) -> Stage:
    autoencoder = model.autoencoder

    def pictures(generator: torch.Generator, count: int) -> Tensor:
        n = rows[torch.randint(len(rows), (count,), generator=generator)]
        frame = torch.randint(episodes.images.shape[1], (count,), generator=generator)
        return torch.from_numpy(episodes.images[n.numpy(), frame.numpy()])

    def begin() -> None:
        if not args.init:
            some = pictures(torch.Generator().manual_seed(args.seed), 400)
            autoencoder.background.copy_(some.median(0).values.float() / 255)

    @torch.no_grad()
    def finish() -> None:
        """Freezes the statistics that give the tokens unit variance."""
        autoencoder.train()
        autoencoder.normalize.reset_running_stats()
        autoencoder.normalize.momentum = None  # a plain mean over the batches
        generator = torch.Generator().manual_seed(args.seed)
        for _ in range(20):
            autoencoder.encode(pictures(generator, 100))

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        images = pictures(generator, args.autoencoder_batch)
        return fit_losses.autoencoder_loss(autoencoder, images, generator, args.pixel_weight, args.token_noise)

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        frames = episodes.images[held_rows[:8].numpy(), episodes.images.shape[1] // 2]
        real = torch.from_numpy(np.array(frames))
        drawn = model.decode(model.encode(real, torch.zeros(len(real), 4)))
        error = (drawn.float() - real.float()).square().mean().sqrt()
        return {"rms_error_of_255": float(error), "pictures": strip(real, drawn)}

    return Stage(
        "autoencoder",
        autoencoder,
        loss,
        args.autoencoder_updates,
        args.autoencoder_rate,
        _minutes(args, "autoencoder"),
        args.average,
        begin,
        finish,
        report,
    )


def _predictor_stage(
    args: Arguments,
    model: LatentWorldModel,
    train: Latents,
    held_out: Latents,
    film: np.ndarray,
) -> Stage:
    predictor = model.predictor
    episodes, steps = train.action.shape[:2]

    def begin() -> None:
        """Aims the hand camera at the middle of what changes in the map between two frames."""
        some = train.take(torch.arange(min(episodes, 200)))
        change = some.tokens.float().diff(dim=1).square().mean(-1).flatten(0, 1)
        total = change.sum(1, keepdim=True)
        moving = total[:, 0] > total.median()
        centers = (change @ predictor.position / total.clamp_min(1e-6))[moving]
        between = ((some.proprio[:, 1:] + some.proprio[:, :-1]) / 2).flatten(0, 1)[moving]
        predictor.camera.fit(between, centers)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        length = min(args.horizons[int(progress * len(args.horizons))], steps)
        count = max(1, args.predictor_batch // length)
        n = torch.randint(episodes, (count, 1), generator=generator)
        t = torch.randint(steps - length + 1, (count, 1), generator=generator)
        t = t + torch.arange(length + 1)
        return fit_losses.rollout_loss(
            predictor,
            train.tokens[n, t].float(),
            train.proprio[n, t],
            train.action[n, t[:, :-1]],
            generator,
            args.rollout_noise,
        )

    @torch.inference_mode()
    def report() -> dict[str, Any]:
        dream = model_metrics.open_loop(model, held_out.tokens[:, 0], held_out.proprio[:, 0], held_out.action)
        errors = model_metrics.rollout_errors(held_out.tokens, dream)["predicted"]
        frames = torch.arange(0, steps + 1, 3)
        state = LatentState(dream[0, frames].float(), held_out.proprio[0, frames])
        pictures = strip(torch.from_numpy(np.array(film))[frames], model.decode(state))
        return {f"error_at_{h}": e for h, e in errors.items()} | {"dream": pictures}

    return Stage(
        "predictor",
        predictor,
        loss,
        args.predictor_updates,
        args.predictor_rate,
        _minutes(args, "predictor"),
        args.average,
        begin,
        report=report,
    )


def _success_stage(
    args: Arguments,
    model: LatentWorldModel,
    train: Latents,
    held_out: Latents,
    hindsight: Hindsight,
    rows: Tensor,
) -> Stage:
    # Both kinds of states: as the camera sees them, and as a dream from the first frame has them.
    dreamt = model_metrics.open_loop(model, train.tokens[:, 0], train.proprio[:, 0], train.action)
    episodes, frames = train.condition.shape

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        half = args.success_batch // 2
        n = torch.randint(episodes, (2 * half,), generator=generator)
        t = torch.randint(frames, (2 * half,), generator=generator)
        seen, imagined = train.tokens[n[:half], t[:half]], dreamt[n[half:], t[half:]]
        instruction, answer = hindsight.ask(rows[n], t, generator)
        tokens = torch.cat([seen.float(), imagined.float()])
        tokens = tokens + args.rollout_noise * torch.randn(tokens.shape, generator=generator)
        return fit_losses.success_loss(model.success_head, tokens, train.proprio[n, t], instruction, answer)

    def report() -> dict[str, Any]:
        probability = model_metrics.success_on(model, held_out)
        return {"auc": model_metrics.auc(probability.flatten(), held_out.condition.flatten())}

    return Stage(
        "success",
        model.success_head,
        loss,
        args.success_updates,
        args.success_rate,
        _minutes(args, "success"),
        args.average,
        report=report,
    )


def calibrate(model: LatentWorldModel, held_out: Latents, false_positives: float) -> None:
    """Sets the success head's temperature (Guo et al. 2017) and threshold on held-out episodes.

    The temperature minimizes the cross-entropy over encoded and dreamt states; the threshold is the lowest from 0.5
    on at which at most `false_positives` of the dreamt failures are called successes.
    """
    model.success_head.temperature.fill_(1.0)
    dreamt, truth = model_metrics.success_ahead(model, held_out, held_out.action.shape[1] // 2)
    encoded = model_metrics.success_on(model, held_out)
    logits = torch.cat([encoded.flatten(), dreamt.flatten()]).clamp(1e-6, 1 - 1e-6).logit()
    truths = torch.cat([held_out.condition.flatten(), truth.flatten()])
    temperatures = torch.logspace(-1, 1, 201)
    losses = [torch.nn.functional.binary_cross_entropy_with_logits(logits / t, truths) for t in temperatures]
    best = temperatures[torch.stack(losses).argmin()]
    model.success_head.temperature.fill_(best)
    failures = (dreamt.flatten()[truth.flatten() < 0.5].clamp(1e-6, 1 - 1e-6).logit() / best).sigmoid()
    threshold = failures.quantile(1 - false_positives).item() if len(failures) else 0.5
    model.config = replace(model.config, success_threshold=round(max(0.5, threshold), 3))


def strip(real: Tensor, drawn: Tensor) -> np.ndarray:
    """Lays pictures `(F, H, W, 3)` uint8 in a row, the real ones above the drawn ones."""
    rows = [torch.cat(list(pictures), dim=1) for pictures in (real, drawn)]
    return torch.cat(rows, dim=0).numpy()


def card(args: Arguments, figures: dict[str, Any]) -> str:
    """Writes the card of a checkpoint: command, data, seed and measured figures."""
    errors, success = figures["open_loop_error"], figures["success"]
    steps = list(errors["predicted"])
    lines = [
        "# World model of NicoLDream-v0",
        "",
        f"- Command: `python -m agents.fit {' '.join(sys.argv[1:])}`",
        f"- Data: `{args.data}`, {figures['episodes']['train']} episodes; measured on "
        f"{figures['episodes']['held_out']} held-out ones. Seed {args.seed}.",
        f"- Parameters: {figures['parameters']:,}",
        "",
        "Open-loop error over variance, from the first frame:",
        "",
        "| steps ahead | " + " | ".join(map(str, steps)) + " |",
        "|" + "---|" * (len(steps) + 1),
    ]
    for name in ("predicted", "copied"):
        lines.append(f"| {name} | " + " | ".join(f"{errors[name][h]:.3f}" for h in steps) + " |")
    lines += ["", "Read off the latent by a probe, median error on held-out episodes (cm):", ""]
    for name in ("target_probe_cm", "hand_probe_cm"):
        lines.append(f"- {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in figures[name].items()))
    lines += ["", f"Success head at threshold {success['threshold']:.2f}:", ""]
    for name in success.keys() - {"threshold"}:
        lines.append(f"- {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in success[name].items()))
    speed = ", ".join(f"{v:,.0f} at {k}" for k, v in figures["steps_per_cpu_second"].items())
    return "\n".join([*lines, "", f"Imagined steps per CPU second, by batch: {speed}.", ""])


def _minutes(args: Arguments, stage: str) -> float | None:
    return None if args.minutes is None else args.minutes * SHARES[stage]


def main(arguments: Arguments | None = None) -> None:
    """Runs the command."""
    args = arguments or tyro.cli(Arguments, prog="python -m agents.fit")
    episodes = EpisodeDataset.load(args.data)
    figures = fit(args, episodes)
    StartBank.from_episodes(episodes, limit=args.bank, seed=args.seed).save(args.out / "bank.npz")
    print(json.dumps(figures, indent=2))
    print(f"World model: {args.out.resolve()}")


if __name__ == "__main__":
    main()

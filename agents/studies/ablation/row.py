"""One row of `agents.studies.ablation`: fits a world model and measures its rollouts of held-out episodes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dream_env.agents.eval.statistics import auc, spearman
from dream_env.agents.fidelity import figures as fidelity_figures
from dream_env.agents.fidelity.replay import dream_rollout
from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, Episodes, encode_episodes
from dream_env.agents.nicol.probes import Probe, fit_probe
from dream_env.files import replacing
from dream_env.nicol.constants import ACTION_NAMES, IMAGE_SIZE
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.world_models import checkpoint

FALSE_POSITIVES = 0.02
"""False-positive rate at which the threshold of success is set."""


@dataclass(frozen=True)
class Job:
    """A row to fit and measure.

    Attributes:
        name: Name of the run.
        words: Options of `agents.fit`.
        runs: Folder of intermediate results that several rows share.
        probe_updates: Gradient updates of the probe.
    """

    name: str
    words: tuple[str, ...]
    runs: Path
    probe_updates: int

    @property
    def fitting(self) -> fit.Arguments:
        """The options, parsed as `agents.fit` parses them."""
        return tyro.cli(fit.Arguments, prog="python -m agents.fit", args=self.words)


def run(job: Job) -> tuple[str, dict[str, Any]]:
    """Fits and measures a row; its output to stderr goes to log.txt in the folder of its checkpoint.

    Returns:
        The name of the row and its figures.
    """
    args = job.fitting
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "log.txt").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        episodes = _load(args)
        encode, probe = _shared(job, args, episodes) if args.autoencoder else (encode_episodes, None)
        fitted = fit.train(args, episodes, encode=encode)
        command = f"python -m agents.fit {shlex.join(job.words)}"
        checkpoint.save(fitted.model, args.out, f"# Row {job.name} of an ablation\n\nCommand: `{command}`\n")
        probe = probe or fit_probe(fitted.train, job.probe_updates)
        figures = measure(fitted.model.eval(), probe, fitted.held_out)
    return job.name, {
        "train_episodes": len(fitted.train.tokens),
        "held_out_episodes": len(fitted.held_out.tokens),
        **figures,
        "cpu_minutes": sum(fitted.minutes.values()),
        "cpu_minutes_encoder": sum(fitted.minutes.get(stage, 0.0) for stage in ("autoencoder", "joint")),
    }


def share(job: Job) -> None:
    """Encodes the episodes and trains the probe for all rows with the same encoder, unless the files exist."""
    torch.set_num_threads(1)
    args = job.fitting
    _shared(job, args, _load(args))


def _load(args: fit.Arguments) -> EpisodeDataset:
    return EpisodeDataset.load(*args.data)


def _shared(job: Job, args: fit.Arguments, episodes: EpisodeDataset) -> tuple[Callable[..., EncodedDataset], Probe]:
    """Returns the function that encodes episodes by --autoencoder, and its probe; both are kept in `job.runs`."""
    model = checkpoint.load(str(args.autoencoder))
    train, held_out = fit.split(replace(args, kinds=None), episodes)
    rows = torch.cat([train, held_out])
    parts = [checkpoint.sha256(str(args.autoencoder)), episodes.seed[rows.numpy()].tolist(), args.settings()["data"]]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    file = job.runs / f"latents-{name}.safetensors"
    if not file.is_file():
        encoded = encode_episodes(model, episodes, rows)
        with replacing(file) as part:
            save_file(encoded._asdict(), part)
    latents = EncodedDataset(**load_file(file))
    place = {row: i for i, row in enumerate(rows.tolist())}

    def encode(model: StateGroundedModel, episodes: Episodes, rows: Tensor, recolored: int = 0) -> EncodedDataset:
        if recolored:
            return encode_episodes(model, episodes, rows, recolored)
        return latents.take(torch.tensor([place[row] for row in rows.tolist()]))

    file = job.runs / f"probe-{name}-{job.probe_updates}.safetensors"
    if not file.is_file():
        fitted = fit_probe(encode(model, episodes, train), job.probe_updates)
        with replacing(file) as part:
            save_file(fitted.state_dict(), part)
    probe = Probe(latents.tokens.shape[-1], latents.tokens.shape[-2])
    probe.load_state_dict(load_file(file))
    return encode, probe.eval()


def measure(model: StateGroundedModel, probe: Probe, held_out: EncodedDataset) -> dict[str, float]:
    """Measures a world model on held-out episodes of 24 steps.

    Args:
        model: The world model, in eval mode.
        probe: Probe trained on encoded pictures of the model's encoder.
        held_out: N encoded episodes.

    Returns:
        Errors (cm) of hand and cubes, predicted 12 and 24 steps ahead and read from the encoded pictures (`seen`); how
        well held cubes and success are predicted; `latent_error`, relative to copying the first frame; `uncertainty`,
        the rank correlation over episodes of the summed disagreement with the last token error; figures named
        `sampled`, from one rollout with noise; and size (of auto-encoder and predictor) and speed.
    """
    dreams = {start: dream_rollout(model, held_out, start) for start in fidelity_figures.STARTS[12]}
    positions = fidelity_figures.positions(probe, held_out, dreams)
    drawn = {start: dream_rollout(model, held_out, start, torch.Generator().manual_seed(start)) for start in dreams}
    sampled = fidelity_figures.positions(probe, held_out, drawn)
    ahead = fidelity_figures.states_ahead(held_out, dreams, 12)
    errors = model_metrics.rollout_errors(held_out.tokens, dreams[0].tokens, (12, 24))
    dynamics = _parameters(model.predictor) + _parameters(model.object_dynamics)
    last = (dreams[0].tokens[:, -1].float() - held_out.tokens[:, -1].float()).square().mean((1, 2))
    return {
        **{f"{name}_{h}": positions[f"dream_{h}"][name] for name in ("hand", "untouched", "moved") for h in (12, 24)},
        "seen_untouched": positions["encoded_24"]["untouched"],
        "seen_moved": positions["encoded_24"]["moved"],
        "moved_24_sampled": sampled["dream_24"]["moved"],
        "held_auc_12": positions["dream_12"]["held_auc"],
        "held_auc_12_sampled": sampled["dream_12"]["held_auc"],
        **{f"success_{k}_12": v for k, v in success(ahead.probability, ahead.condition).items()},
        **{f"latent_error_{h}": errors["predicted"][h] / errors["copied"][h] for h in errors["predicted"]},
        "uncertainty": spearman(dreams[0].disagreement.sum(1).numpy(), last.numpy()),
        "parameters": _parameters(model.autoencoder) + dynamics,
        "parameters_predictor": dynamics,
        "mmac_per_step": mmac_per_step(model),
        "steps_per_cpu_second": model_metrics.steps_per_second(model, 256),
    }


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def success(probability: Tensor, condition: Tensor) -> dict[str, float]:
    """Returns AUC, false-positive rate and recall of success predictions.

    The threshold gives `FALSE_POSITIVES` false positives; each half of the states uses the threshold of the other half.

    Args:
        probability: Predicted probability of the success condition, `(S,)`.
        condition: Whether the condition holds, `(S,)`, 0 or 1.
    """
    called = torch.zeros(len(probability), dtype=torch.bool)
    for one in (0, 1):
        other = probability[1 - one :: 2][condition[1 - one :: 2] < 0.5]
        called[one::2] = probability[one::2] > other.quantile(1 - FALSE_POSITIVES)
    return {
        "auc": auc(probability, condition),
        "false_positives": float(called[condition < 0.5].float().mean()),
        "recall": float(called[condition > 0.5].float().mean()),
    }


@torch.inference_mode()
def mmac_per_step(model: StateGroundedModel, rows: int = 1) -> float:
    """Counts the multiply-accumulate operations of one predicted step, in millions."""
    images = torch.zeros(rows, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
    action = torch.zeros(rows, len(ACTION_NAMES))
    state = model.encode({"pixels": images})
    with FlopCounterMode(display=False) as counter:
        model.step(state, action)
    return counter.get_total_flops() / (2 * rows * 1e6)

"""Reports whether a world model is accurate enough to train in: dream against physics, on held-out seeds.

    python -m agents.fidelity --data data --policies runs/clone/snapshots/* runs/ppo/snapshots/*

The same actions are replayed in the dream and in physics, and the same policies act in both. The report contains the
error of the dream over time (latent error; hand and cubes in centimeters; held or not), the agreement of successes and
rewards with physics, how well disagreement predicts the error, and whether the dream ranks policies as physics does.
It ends with a verdict per task.

Held-out episodes, results of policies in physics, and the probe are kept in --cache. A second run, or a run with
another world model that has the same encoder, therefore only computes dreams. Running the same command again resumes
an interrupted run.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dream_env.agents.eval.open_loop import each_step
from dream_env.agents.fidelity import figures as fidelity_figures
from dream_env.agents.fidelity import pictures, ranking, repeat, replay, uncertainty
from dream_env.agents.fidelity.arguments import Arguments
from dream_env.agents.fidelity.replay import Rollout
from dream_env.agents.fidelity.report import headline, markdown, verdict
from dream_env.agents.fidelity.view import viewed
from dream_env.agents.nicol import probes
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, encode_episodes
from dream_env.agents.run import hashing as sources
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.reward_audit import command as reward_audit
from dream_env.files import nan_to_none, replacing, write_json, write_text
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.world_models import checkpoint


def measure(args: Arguments) -> dict[str, Any]:
    """Runs all measurements and draws the picture strips.

    Returns:
        The report, which can be written as JSON; see the keys in `results/fidelity.json`.

    Raises:
        FileNotFoundError: If data, world model or a policy are missing.
        ValueError: If an argument is not accepted, a policy uses another encoder, or the data contain held-out seeds.
    """
    tasks = args.task_names()
    check_out(args.out)
    workers: pool.Workers = "ray" if args.ray else args.workers
    folder = checkpoint.resolve(args.world_model)
    model = viewed(checkpoint.load(folder))
    ranking.check_policies(args.policies, args.world_model)
    data = EpisodeDataset.load(args.data)

    encoder = replay.encoder_digest(model)
    listed = replay.jobs(tasks, ranking.recordable(args.policies), args.episodes, args.seed)
    if common := set(data.seed.tolist()) & {job.seed for job in listed}:
        raise ValueError(f"data={args.data} holds the held-out seed {min(common)}; accepted: episodes of other seeds")
    played_in = args.cache / sources.physics()
    name = _digest(tasks, [ranking.weights(policy) for policy in args.policies], args.seed, encoder)
    episodes = replay.held_out(listed, str(folder), played_in / f"episodes-{name}", workers)
    probe = fitted_probe(args, model, data, encoder)

    latents = encode_episodes(model, episodes)
    goal, ends = replay.goals(model, latents, episodes.goal_image)
    physics = replay.physics_rollout(model, latents, ends)
    starts = sorted({start for each in fidelity_figures.STARTS.values() for start in each})
    dreams = {start: replay.dream_rollout(model, latents, start, goal=ends) for start in starts}
    dream = dreams[0]
    true_returns, told_returns = (replay.returns(model, latents, world, goal) for world in (physics, dream))
    encoded, threshold = each_step(model.success, physics.states), replay.threshold(model)
    again = repeat.again(episodes.take(np.arange(min(args.again, len(episodes)))), workers) if args.again else None
    played = []
    seeds = range(args.seed, args.seed + args.policy_episodes)
    if args.policies:
        played = ranking.compare(
            args.policies, tasks, seeds, str(folder), played_in / "policies", args.temperature, workers
        )

    def part(task: str | None) -> dict[str, Any]:
        own = np.full(len(episodes), True) if task is None else episodes.task == task
        rows = torch.from_numpy(np.flatnonzero(own))
        some, true = latents.take(rows), physics.take(rows)
        rollouts = {start: each.take(rows) for start, each in dreams.items()}
        repeated = again and again.take(own[: len(again.condition)])
        return {
            "latent_error": fidelity_figures.latent_error(some, rollouts[0]),
            "positions": fidelity_figures.positions(probe, some, rollouts),
            "physics_again": repeated and repeat.median(repeated.error),
            "success": fidelity_figures.success(
                encoded[rows], some, rollouts, threshold, repeated and repeated.condition
            ),
            "outcomes": fidelity_figures.confusion(true, rollouts[0], episodes.kind[own]),
            "rewards": fidelity_figures.reward_correlations(true_returns, told_returns, own),
            "policies": ranking.agreement(played, task) if played else None,
        }

    rewards: dict[str, dict[str, float]] = {}
    if args.scenes:
        cache = args.cache / "scenes"
        rewards = reward_audit.reward_figures(
            str(folder), scenes=args.scenes, cache=cache, workers=workers, tasks=tasks
        )
    parts = {task: part(task) for task in tasks}
    overall = part(None)
    for task in tasks:
        _strip(args, model, episodes, dream, task)
    report: dict[str, Any] = {
        "checkpoint_sha256": checkpoint.sha256(folder),
        "world_model": args.world_model,
        "command": command_line("fidelity", args),
        "seeds": {"episodes": [args.seed, args.seed + len(episodes) - 1], "policies": [seeds[0], seeds[-1]]},
        "episodes": len(episodes),
        "temperature": args.temperature,
        "success_threshold": threshold,
        "tasks": {task: _headline(figures) | rewards.get(task, {}) | figures for task, figures in parts.items()},
        "all": overall,
        "disagreement": _disagreement(model, latents, physics, dream),
        "policies": len(args.policies),
        "policy_spearman": overall["policies"]["spearman"] if played else None,
        "policy_mae_points": overall["policies"]["mae_points"] if played else None,
    }
    report["disagreement_spearman"] = report["disagreement"]["rollout_24"]["sum"]
    report = nan_to_none(report, digits=4)
    return report | {"headline": headline(report), "verdict": verdict(report)}


def _headline(figures: dict[str, Any]) -> dict[str, Any]:
    """Selects the figures that have targets."""
    last, middle = figures["positions"]["dream_24"], figures["positions"]["dream_12"]
    return {
        "hand_cm_24": last["hand"],
        "object_cm_24_untouched": last["untouched"],
        "object_cm_24_moved": last["moved"],
        "held_auc_12": middle["held_auc"],
        "success_auc": figures["success"]["all"]["auc"],
        "success_fpr": figures["success"]["all"]["false_positive_rate"],
        "reward_spearman": None,
        "reward_pairwise": None,
    }


def _disagreement(model: Any, latents: EncodedDataset, physics: Rollout, dream: Rollout) -> dict[str, Any]:
    figures = uncertainty.correlations(latents, physics, dream)
    whole = figures["rollout_24"]
    summed = dream.disagreement.sum(1)
    drift = uncertainty.frame_errors(latents.tokens, dream.tokens)[:, -1]
    return {
        **figures,
        "best": max(whole, key=lambda way: -math.inf if math.isnan(whole[way]) else whole[way]),
        "outliers": uncertainty.outliers(model, latents),
        "scatter": {"disagreement": summed.tolist(), "error": drift.tolist()},
    }


def fitted_probe(args: Arguments, model: Any, data: EpisodeDataset, encoder: str) -> probes.Probe:
    """Trains the probe of an encoder, or loads it if it was trained before with the same data and updates."""
    some = np.random.default_rng(0).permutation(len(data))[: args.probe_episodes]
    train = data.take(np.sort(some))
    content = hashlib.sha256(train.objects.tobytes()).hexdigest()
    file = args.cache / f"probe-{_digest(encoder, content, args.probe_updates)}.safetensors"
    if file.is_file():
        tokens, channels = encode_episodes(model, train.take(slice(1))).tokens.shape[-2:]
        probe = probes.Probe(channels, tokens)
        probe.load_state_dict(load_file(file))
        return probe.eval()
    probe = probes.fit_probe(encode_episodes(model, train), args.probe_updates)
    with replacing(file) as part:
        save_file(probe.state_dict(), part)
    return probe


def _strip(args: Arguments, model: Any, episodes: EpisodeDataset, dream: Rollout, task: str) -> None:
    """Draws one episode of each kind of a task: the camera pictures and the decoded pictures of the dream."""
    own = episodes.task == task
    shown = [np.flatnonzero(own & (episodes.kind == kind))[0] for kind in dict.fromkeys(episodes.kind[own].tolist())]
    states = ({name: part[i].float() for name, part in dream.states.items()} for i in shown)
    drawn = [model.decode(state)["pixels"].cpu().numpy() for state in states]
    pictures.strip(
        episodes.images[shown], np.stack(drawn), episodes.kind[shown].tolist(), args.out / f"fidelity_{task}.png"
    )


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def main(args: Arguments) -> None:
    """Runs the command."""
    report = measure(args)
    text = markdown(report)
    write_json(args.out / "fidelity.json", report)
    write_text(args.out / "fidelity.md", text)
    pictures.plot(report, args.out / "fidelity.png")
    print(f"\n{text}\nReport: {(args.out / 'fidelity.md').resolve()}\n\n{report['verdict']}")

"""Draws predictions of policies with a world model: `python -m agents.studies.imagined --data DIR --video FOLDER`.

For a policy that generates futures, the command draws these futures; for a policy that predicts embeddings, the nearest
recorded frames; for a unified model, its rollout. All are shown next to what then happened. For a fused network, it
plots the saved weights and time and the cost in error.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dream_env.agents.policies import registry
from dream_env.agents.run.config import check_out
from dream_env.agents.studies.imagined import drawings
from dream_env.agents.studies.imagined.arguments import Arguments
from dream_env.checks import check_choice
from dream_env.data.episodes import EpisodeDataset
from dream_env.world_models import checkpoint


def chosen(data: EpisodeDataset, args: Arguments) -> np.ndarray:
    """Returns the indices of the demonstrations that may be drawn: the successful ones of the tasks.

    Raises:
        ValueError: If a task is unknown, or there are too few demonstrations.
    """
    known = sorted(set(data.task.tolist()))
    for task in args.tasks:
        check_choice("tasks", task, known)
    good = np.ones(len(data), bool) if data.success is None else data.solved
    demo = data.kind == "demo" if "demo" in data.kind else good
    rows = np.flatnonzero(demo & good & np.isin(data.task, args.tasks or known))
    if args.episode >= len(rows):
        raise ValueError(f"episode={args.episode}: {len(rows)} may be drawn; accepted: less than these")
    return rows


def draw(args: Arguments) -> list[str]:
    """Draws the requested pictures, and returns the names of the files.

    Raises:
        ValueError: If a policy is of another kind, or a world model cannot decode embeddings.
    """
    check_out(args.out)
    made: dict[str, Any] = {}
    if args.data is not None:
        data = EpisodeDataset.load(args.data)
        rows = chosen(data, args)
        episode = int(rows[args.episode])
        if args.video:
            policy = _policy(args.video, "video")
            made["video"] = drawings.video(policy, checkpoint.load(policy.config.world_model), data, episode)
        if args.latent:
            policy, several = _policy(args.latent, "latent"), np.setdiff1d(rows, episode)[: args.others]
            model = checkpoint.load(policy.config.world_model)
            made["latent"] = drawings.latent(policy, model, data, episode, several)
        if args.unified:
            worlds = {"its dream": checkpoint.load(args.unified), "base's dream": checkpoint.load(args.base)}
            made["unified"] = drawings.dreams(worlds, data, episode)
    if args.fused:
        made["fused"] = drawings.fused(json.loads(args.fused.read_text(encoding="utf-8")))
    for name, picture in made.items():
        drawings.save(picture, args.out / f"policies_{name}.png")
    return [f"policies_{name}.png" for name in made]


def _policy(folder: str, kind: str) -> Any:
    policy = registry.load(folder)
    if policy.kind != kind:
        raise ValueError(
            f"{kind}={folder!r} is of kind {policy.kind!r}; accepted: one of `agents.clone --policy {kind}`"
        )
    return policy


def main(args: Arguments) -> None:
    """Runs the command."""
    for name in draw(args):
        print((args.out / name).resolve())

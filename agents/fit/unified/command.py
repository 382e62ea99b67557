"""Fits a world model and a policy in one network: `python -m agents.fit --model unified --base W --data DIR --out DIR`.

Encoder, decoder and embedding come from the base, a world model of kind slots or dynamics. Next tokens are learned from
all episodes, actions from demonstrations. With `--teacher-policy` the network is distilled instead: actions from a
trained policy, next tokens from recorded episodes and from rollouts of that policy in a world model. The output folder
is a world model for `Dream-v0` and a policy for `agents.evaluate`; `agents.train --world-model OUT --init OUT` trains
the policy further in its own world model. An interrupted run resumes when the command is run again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dream_env.agents.clone.encoded_frames import check_world, encode
from dream_env.agents.clone.transformer_clone import demonstrations
from dream_env.agents.fit.common import begin, finish, initial_states, minutes, split_from
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.trainer import CHECKSUM, Run
from dream_env.agents.fit.unified import teacher
from dream_env.agents.fit.unified.arguments import Arguments
from dream_env.agents.fit.unified.figures import figures
from dream_env.agents.fit.unified.frames import Shown, observations, tokens_of
from dream_env.agents.fit.unified.stages import Examples, action_loss, stage
from dream_env.agents.policies import registry
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.agents.run.config import command_line
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import FILE, InitialStates
from dream_env.world_models import checkpoint
from dream_env.world_models.unified.model import UnifiedModel


def fit(args: Arguments, episodes: EpisodeDataset, save_seconds: float = 60.0) -> tuple[UnifiedModel, dict[str, Any]]:
    """Fits a model, and saves it with initial states, figures and card in `args.out`.

    Args:
        args: See `Arguments`; `args.data` is only used as the name of the data.
        episodes: Recorded episodes of the base model's world.
        save_seconds: Time in seconds between saves of the run's state.

    Returns:
        The model, in eval mode, and the contents of `metrics.json`.

    Raises:
        ValueError: If this kind of base model is not supported, if base, teacher and data do not fit together, or if
            `args.out` contains something else.
    """
    began, episodes = begin(args, UnifiedModel.kind, episodes, args.base, args.teacher_policy)
    base = checkpoint.load(args.base)
    sizes = {
        name: getattr(args, name)
        for name in ("width", "hidden", "members", "queries", "features", "goal", "sees", "std")
    }
    chunk = 1 if args.teacher_policy else args.chunk
    if args.hindsight and not base.spec.goals:
        raise ValueError(f"hindsight={args.hindsight}: the base's world, {base.spec.name}, has no goals; accepted: 0")
    check_world(base, episodes)
    model = UnifiedModel.around(base, **sizes, chunk=chunk, encoder_id=fingerprint(base))
    held = held_out(args, episodes)
    recorded = tokens_of(model, base, episodes, args.cache)
    train, test = recorded.take(np.flatnonzero(~held)), recorded.take(np.flatnonzero(held))
    examples, dreamt, example_figures = _examples(args, model, base, episodes)
    if examples is not None:
        assert model.action_stream is not None
        obs, _, _ = examples.draw(replace(args, examples=4096), 1, torch.Generator().manual_seed(args.seed))
        model.action_stream.measure(model.tokens.robot_of(model.tokens.of(obs)[1]), obs)
    settings = args.settings() | {"episodes": len(episodes), "frames": train.frames, CHECKSUM: episodes.checksum}
    run = Run(model, args.out, settings, seed=args.seed, save_seconds=save_seconds, muon=False)
    run.train(stage(model, args, train, examples, dreamt))
    model.eval().requires_grad_(False)
    found = {
        "episodes": {"train": len(train.first), "held_out": len(test.first)},
        "frames": train.frames,
        **example_figures,
        "parameters": parameters(model),
        **figures(model, base, test),
        "held_out_seeds": episodes.seed[held].tolist(),
        **minutes(run, began),
    }
    if examples is not None:
        with torch.no_grad():
            drawn = examples.draw(replace(args, examples=4096), model.config.chunk, torch.Generator().manual_seed(1))
            found["action_loss"] = round(float(action_loss(model, *drawn)), 4)
    model.config = replace(model.config, is_policy=examples is not None)
    file = checkpoint.resolve(args.base) / FILE
    starts = InitialStates.load(file) if file.is_file() else initial_states(episodes, 4, args.seed)
    finish(model, args, found, card(args, model, found), starts)
    return model, found


def held_out(args: Arguments, episodes: EpisodeDataset) -> np.ndarray:
    """Returns which episodes are held out, `(N,)` bool: those of the base if known, otherwise a random share."""
    found = np.zeros(len(episodes), bool)
    found[split_from(args.base, episodes, args.held_out, np.random.default_rng(args.seed))[0]] = True
    return found


def _examples(
    args: Arguments, model: UnifiedModel, base: Any, episodes: EpisodeDataset
) -> tuple[Examples | None, Recorded | None, dict[str, Any]]:
    """Returns the action examples, the teacher's rollouts, and figures about both for `metrics.json`."""
    if model.action_stream is None or not args.action_weight:
        return None, None, {}
    if args.teacher_policy is None:
        demos = demonstrations(episodes, args)  # type: ignore[arg-type]
        every = observations(model, base, episodes, args.cache) if args.hindsight else None
        return Examples(encode(Shown(base, model), demos, args.imitates), every), None, {"demonstrations": len(demos)}
    policy = registry.load(args.teacher_policy)
    obs, mean = teacher.means(policy, observations(model, base, episodes, args.cache))
    dreamt, dreamt_obs, dreamt_mean = teacher.dreams(policy, args.teacher or args.base, model, args.dreams, args.seed)
    names = (*model.observed, *model.action_stream.names)
    both = {name: torch.cat([obs[name].float(), dreamt_obs[name]]) for name in names}
    counts = {"teacher_parameters": sum(p.numel() for p in policy.parameters()), "dreams": args.dreams}
    return Examples(taught=(both, torch.cat([mean, dreamt_mean]))), dreamt, counts


def parameters(model: UnifiedModel) -> dict[str, int]:
    """Returns the number of parameters of the trunk, of each stream, and of the base model."""
    parts = {"trunk": model.trunk, "dream": model.dream, "actions": model.action_stream, "base": model.base}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}


def made(model: UnifiedModel, args: Arguments) -> str:
    """Returns a title that says which parts of the network were trained."""
    if model.action_stream is None:
        return "World model"
    if not args.action_weight:
        return "World model (--action-weight 0: its policy has learned nothing)"
    return "World model and policy" if args.token_weight else "Policy (--token-weight 0: its dream has learned nothing)"


def card(args: Arguments, model: UnifiedModel, found: dict[str, Any]) -> str:
    """Returns the text of the model card: command, data, seed and measured figures."""
    rows = found["open_loop"]
    names = list(next(iter(rows.values())))
    weights = ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items())
    return "\n".join(
        [
            f"# {made(model, args)} of {model.spec.name} in one network",
            "",
            f"- Command: `{command_line('fit --model unified', args)}`",
            f"- Data: {found['episodes']['train']} episodes, {found['frames']} frames; measured on "
            f"{found['episodes']['held_out']} held-out ones. Seed {args.seed}.",
            f"- Base: `{args.base}`. Parameters: {weights}; {found['wall_minutes']} minutes.",
            "",
            "Median open-loop error of tokens, predicted from the first frame only; base: the base model's dynamics.",
            "",
            "| steps ahead | " + " | ".join(names) + " |",
            "|" + "---|" * (len(names) + 1),
            *(f"| {k} | " + " | ".join(str(row[name]) for name in names) + " |" for k, row in rows.items()),
            "",
        ]
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    model, found = fit(args, EpisodeDataset.load(*args.data))
    print(json.dumps({name: value for name, value in found.items() if name != "held_out_seeds"}, indent=2))
    print(f"{made(model, args)}: {args.out.resolve()}")

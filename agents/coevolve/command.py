"""Refits a world model to a policy's behavior: `python -m agents.coevolve --policy DIR --data DIR --out DIR`.

A policy that was trained in a dream moves to states that are rare in the recorded episodes, and there the dream errs in
its favor. This command therefore records the policy in physics: in half of the episodes the policy acts in physics, in
the other half physics executes the actions that it chooses in a dream with the same initial state. It then continues to
fit the world model to the old and the new episodes (the encoder stays fixed, so existing policies still fit), and
measures the fidelity before and after on held-out seeds, also under this policy. WMPO (arXiv:2511.09515) also fits its
world model to the policy's behavior. An interrupted run continues when the same command is given again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents import collect
from dream_env.agents.coevolve.arguments import Arguments
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.fidelity import command as fidelity
from dream_env.agents.fidelity import ranking
from dream_env.agents.fit.kinds import KINDS
from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.run.config import check_settings
from dream_env.files import write_json, write_text
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD
from dream_env.world_models import checkpoint

SHOWN = {
    "hand_cm_24": "hand after 24 steps (cm)",
    "object_cm_24_untouched": "untouched cubes (cm)",
    "object_cm_24_moved": "moved cubes (cm)",
    "held_auc_12": "held, AUC at 12 steps",
    "success_auc": "success, AUC",
    "success_fpr": "success, false positives",
}
"""Metrics of `agents.fidelity` that the report contains, and their labels."""
OTHERS = {*KINDS} - {"state_grounded"}
"""Kinds of world models that this command cannot refit."""


def coevolve(args: Arguments) -> dict[str, Any]:
    """Runs all steps that are not done yet and returns the report as JSON values; errors as in `record_and_refit`."""
    refitted = record_and_refit(args)
    before = _fidelity(args, args.world_model, args.out / "before")
    after = _fidelity(args, str(refitted), args.out / "after")
    report = {
        "policy": str(args.policy),
        "physics_episodes": args.episodes,
        "before": _headline(before),
        "after": _headline(after),
    }
    write_json(args.out / "coevolution.json", report)
    write_text(args.out / "coevolution.md", table(report))
    return report


def record_and_refit(args: Arguments) -> Path:
    """Records the policy and refits the world model, unless already done; returns the folder of the new world model.

    Raises:
        FileNotFoundError: If the policy, the data or the world model is missing.
        ValueError: If the policy was trained with another encoder, or `args.out` holds a run with other settings.
    """
    check(args)
    recorded, refitted = args.out / "episodes", args.out / "world_model"
    collect.collect(
        collect.Arguments(
            recorded,
            args.episodes,
            mix="policy:0.5,dreamt:0.5",
            policy=str(args.policy),
            world_model=str(checkpoint.resolve(args.world_model)),
            seed=args.seed,
            workers=args.workers,
        )
    )
    if not (refitted / "metrics.json").is_file():
        refit(args, recorded, refitted)
    return refitted


def check(args: Arguments) -> None:
    """Raises errors now that would otherwise occur after recording, and saves the settings.

    Errors as in `record_and_refit`.
    """
    file = args.out / "coevolve_settings.json"  # `agents.studies.transfer` uses settings.json
    if file.is_file():
        check_settings(args.out, json.loads(file.read_text()), args.settings())
    model: Any = checkpoint.load(args.world_model)
    if model.spec.name != SPEC.name or model.kind in OTHERS:
        raise ValueError(
            f"world_model={args.world_model!r} is of kind {model.kind!r}, fitted to {model.spec.name}; accepted: one "
            "of NICOL of kind state_grounded; elsewhere record what the policy does (`agents.collect --policy`) and "
            "fit again (`agents.fit --data OLD NEW`)"
        )
    ranking.check_policies((str(args.policy),), args.world_model)
    EpisodeDataset.load(*args.data)
    write_json(file, args.settings())


def refit(args: Arguments, recorded: Path, out: Path) -> None:
    """Continues to fit the predictor and the heads; keeps the initial states of the original world model."""
    settings = fit.Arguments(
        data=(*args.data, recorded),
        out=out,
        init=str(checkpoint.resolve(args.world_model)),
        autoencoder_updates=0,
        state_estimator_updates=0,
        object_dynamics_updates=args.updates,
        object_dynamics_rate=4e-3,
        object_dynamics_horizons=(12, 24),
        predictor_updates=args.updates,
        predictor_rate=4e-3,
        horizons=(12, 24),
        success_updates=args.updates,
        metric_updates=args.updates,
        painter_updates=0,
        held_out=0.15,  # enough episodes to set thresholds on
        seed=args.seed,
        threads=args.threads,
    )
    old = EpisodeDataset.load(*args.data)
    rows = np.random.default_rng(args.seed).permutation(len(old))[: args.rehearsed]
    out.mkdir(parents=True, exist_ok=True)
    # Copied before the fit, because its metrics.json marks the refit as complete.
    shutil.copy(checkpoint.resolve(args.world_model) / "initial_states.npz", out / "initial_states.npz")
    fit.fit(settings, EpisodeDataset.concatenate([old.take(np.sort(rows)), EpisodeDataset.load(recorded)]))


def _fidelity(args: Arguments, world_model: str, out: Path) -> dict[str, Any]:
    if not (out / "fidelity.json").is_file():
        fidelity.main(
            fidelity.Arguments(
                data=args.data[0],
                policies=(str(args.policy),),
                world_model=world_model,
                out=out,
                cache=args.out / "cache",
                episodes=args.measured,
                policy_episodes=args.policy_episodes,
            )
        )
    return json.loads((out / "fidelity.json").read_text())


def _headline(report: dict[str, Any]) -> dict[str, Any]:
    """Selects the metrics of a fidelity report that the comparison shows."""
    tasks = {task: {key: report["tasks"][task][key] for key in SHOWN} for task in STANDARD}
    return {"tasks": tasks, "success_apart_points": report["policy_mae_points"]}


def table(report: dict[str, Any]) -> str:
    """Formats the report as a Markdown table."""
    rows = [
        [task, text, *(_number(report[when]["tasks"][task][key]) for when in ("before", "after"))]
        for task in STANDARD
        for key, text in SHOWN.items()
    ]
    apart = [_number(report[when]["success_apart_points"]) for when in ("before", "after")]
    rows.append(["all", "success of the policy, dream against physics (points)", *apart])
    return markdown_table(["task", "figure", "before", "after"], rows) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def main(args: Arguments) -> None:
    """Runs the command."""
    print("\n" + table(coevolve(args)))
    print(f"World model: {(args.out / 'world_model').resolve()}")

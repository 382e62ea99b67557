"""The transfer study: does practice in the dream improve success in physics?

    python -m agents.studies.transfer              # everything; takes hours; the main comparison comes first
    python -m agents.studies.transfer --only clone,dream --demos 100 --side-episodes 34
    python -m agents.studies.transfer --workers 0 --side-episodes 34 --archive results/transfer_runs.tar.xz  # report

All methods use the same demonstrations, and all policies are evaluated from the same held-out starts in physics and in
the dream. The report is written after every trial. Running the same command again resumes an interrupted study:
finished trials are not repeated, and a policy is trained again only if something that it depends on has changed. With
`--workers 0` the report shows what the archive holds, whichever world model it was made with.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dream_env.agents.eval.results import WORLDS, EpisodeResult, World, load_results, save_results
from dream_env.agents.evaluate.command import DREAM_CHUNK, HELD_OUT_SEED
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import command_line
from dream_env.agents.studies.transfer import report
from dream_env.agents.studies.transfer.arguments import Arguments, Setup
from dream_env.agents.studies.transfer.methods import make
from dream_env.agents.studies.transfer.plan import MAIN_DEMOS, Trial
from dream_env.agents.studies.transfer.policies import digest, folder, pack, practice_settings, trained, unpack
from dream_env.agents.studies.transfer.results import PlayedTrial, Results, cells
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.tasks import STANDARD
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint


def result_files(trial: Trial, setup: Setup) -> dict[World, Path]:
    """Returns the files for the episodes of a trial, by world.

    File names of dream episodes contain a digest of the world model, since another world model needs new episodes;
    episodes in physics do not depend on it. Policies with a dream of their own are already identified by their folder;
    their files are named "own", so that the report can be written without the weights.
    """
    made, trials = trained(trial.spec, setup), folder(trial.spec, setup) / "trials"
    own = made is not None and made[trial.budget].world_model is not None
    dream = "own" if own else digest(setup.world_model)[:8]
    files: dict[World, Path] = {
        "physics": trials / f"{trial.name}.jsonl",
        "dream": trials / f"{trial.name}-{dream}.jsonl",
    }
    if setup.archived and not files["dream"].is_file():  # those of the world model that the archive was played with
        files["dream"] = next(trials.glob(f"{trial.name}-{8 * '?'}.jsonl"), files["dream"])
    return {world: files[world] for world in (WORLDS if trial.usual else WORLDS[:1])}


def is_done(trial: Trial, setup: Setup) -> bool:
    """Returns whether the policy of a trial is trained and evaluated."""
    return trained(trial.spec, setup) is not None and all(
        file.is_file() for file in result_files(trial, setup).values()
    )


def episodes_of(trial: Trial, setup: Setup) -> list[EpisodeResult]:
    """Reads the episodes of a finished trial."""
    return [result for file in result_files(trial, setup).values() for result in load_results(file)]


def run(trial: Trial, setup: Setup) -> tuple[Trial, str | None]:
    """Trains and evaluates the policy of a trial; runs in worker processes.

    Returns:
        The trial, and the traceback of an error or None; a failed trial does not stop the others.
    """
    torch.set_num_threads(1)
    try:
        made = make(trial.spec, setup)[trial.budget]
        chunks = [
            (task, tuple(range(HELD_OUT_SEED + i, HELD_OUT_SEED + min(i + DREAM_CHUNK, trial.episodes))))
            for task in STANDARD
            for i in range(0, trial.episodes, DREAM_CHUNK)
        ]
        # "bounded" is the cheapest reward that every kind of env supports.
        common: dict[str, Any] = {"instruction": trial.instruction, "shift": trial.shift, "reward": "bounded"}
        common["world_model"] = made.world_model or setup.world_model
        for world, file in result_files(trial, setup).items():
            if not file.is_file():
                batches = [Batch(made.path, trial.spec.method, world, task, some, **common) for task, some in chunks]
                save_results([result for batch in batches for result in play(batch)], file)
    except Exception:
        return trial, traceback.format_exc()
    return trial, None


def done(trials: Iterable[Trial], setup: Setup) -> list[PlayedTrial]:
    """Reads the finished trials."""
    return [
        PlayedTrial(trial, made[trial.budget], episodes_of(trial, setup))
        for trial in trials
        if is_done(trial, setup) and (made := trained(trial.spec, setup))
    ]


def fitted_episodes(world_model: str) -> int:
    """Returns the number of episodes that a world model was fitted to, from its metrics.json; 0 without that file."""
    figures = checkpoint.resolve(world_model) / "metrics.json"
    return sum(json.loads(figures.read_text())["episodes"].values()) if figures.is_file() else 0


def experiment(args: Arguments) -> str:
    """Runs all requested trials that are not finished, and writes the report after each.

    Returns:
        The report as Markdown.

    Raises:
        ValueError: If a method is unknown, or the archive is damaged.
        FileNotFoundError: If data or world model are missing.
        RuntimeError: If a trial failed; the others are finished first.
    """
    setup = args.setup()
    if args.archive and args.archive.is_file():
        kept = unpack(args.archive, args.runs)
        setup = setup if args.workers else replace(setup, archived=kept)  # a report needs not the weights of then
    everything, asked = args.trials(setup)
    checkpoint.load(args.world_model)
    main = MAIN_DEMOS if any(t.spec.demos == MAIN_DEMOS for t in everything) else everything[0].spec.demos
    steps = fitted_episodes(args.world_model) * EPISODE_STEPS
    about: dict[str, Any] = {"command": command_line("studies.transfer", args)}
    about |= {"recipe": practice_settings(setup.recipe), "planned_trials": len(everything)}
    today = replace(setup, archived=())
    if others := sum(folder(spec, setup) != folder(spec, today) for spec in {trial.spec for trial in asked}):
        about["of_other_models"] = others
        warnings.warn(f"{others} policies of the archive are of another world model or recipe", stacklevel=2)

    def write() -> str:
        if args.archive:
            pack((made.parent for made in args.runs.glob("*/made.json")), args.archive)
        return report.write(Results(done(everything, setup), main, steps), about, args.out)

    missing = [trial for trial in asked if not is_done(trial, setup)] if args.workers else []
    for data in args.data if missing else ():
        EpisodeDataset.load(data)  # decodes the pictures once, before the workers need them
    failures = {}
    with progress_bar(total=len(asked), initial=len(asked) - len(missing), desc="trials", unit="trial") as bar:
        for trial, error in pool.imap(partial(run, setup=setup), missing, args.workers) if missing else ():
            bar.update()
            if error:
                failures[trial] = error
                bar.write(f"{trial} failed:\n{error}")
                continue
            whole = cells(Results(done([trial], setup)))[-1]
            name = f"{trial.spec.method} {trial.spec.demos} {trial.spec.seed} {trial.name}"
            bar.write(f"{name}: success in physics {whole['physics_success']}, in the dream {whole['dream_success']}")
            write()
    text = write()
    if failures:
        raise RuntimeError(f"{len(failures)} trials failed, the first of them:\n{next(iter(failures.values()))}")
    return text


def main(args: Arguments) -> None:
    """Runs the command."""
    print("\n" + experiment(args))
    print(f"Report: {(args.out / 'transfer.md').resolve()}")

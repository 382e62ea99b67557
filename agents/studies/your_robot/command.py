"""Runs the pipeline on another robot: `python -m agents.studies.your_robot` writes your_robot.json and your_robot.md.

The tasks are panda-gym's reach and push, from pictures and the state of the hand, with goal pictures. For each kind of
world model that needs no labels, the study records episodes, fits the world model, clones a policy by hindsight
relabelling or from 25 demonstrations, practices it in the dream with the distance to the goal picture as reward, and
evaluates it in the real environment. After demonstrations, the world model is also refitted to real episodes of the
practiced policy, which practices on in it; the control practices as long without. Baselines are random actions, the
policies before practice, and SAC with hindsight experience replay in the real environment on true positions. Finished
parts are kept in `--work`; running the same command again resumes an interrupted study.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.agents.clone.transformer_arguments import Arguments as CloneArguments
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.coevolve.arguments import Arguments as CoevolveArguments
from dream_env.agents.data import behaviors
from dream_env.agents.eval.any_world import play_real
from dream_env.agents.eval.statistics import markdown_table, wilson
from dream_env.agents.fit.dynamics import arguments as dynamics_arguments
from dream_env.agents.fit.dynamics import command as dynamics_fit
from dream_env.agents.fit.slots import arguments as slots_arguments
from dream_env.agents.fit.slots import command as slots_command
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.your_robot import scripted
from dream_env.agents.studies.your_robot.arguments import CASES, Arguments
from dream_env.agents.studies.your_robot.cases import Case, size
from dream_env.agents.train.arguments import VALIDATION_SEED
from dream_env.agents.train.arguments import Arguments as TrainArguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.writer import EpisodeWriter
from dream_env.files import write_json, write_text
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

HELD_OUT_SEED = 300_000
"""First of the real seeds for the final evaluation; the settings below were chosen on seeds from `VALIDATION_SEED`."""
FITS: dict[str, tuple[Any, Any]] = {
    "slots": (slots_arguments.Arguments, slots_command.fit),
    "dynamics": (dynamics_arguments.Arguments, dynamics_fit.fit),
}
"""Kinds of world models, each with the arguments class and the function of its fit."""
RANDOM, CLONE, DEMONSTRATED, PRACTISED, LONGER, COEVOLVED, HER = (
    "random actions",
    "clone from hindsight",
    "clone of 25 demonstrations",
    "practised in the dream",
    "practised twice as long",
    "practised on after co-evolution",
    "SAC + HER, real, true positions",
)
POLICIES = (RANDOM, CLONE, DEMONSTRATED, PRACTISED, LONGER, COEVOLVED, HER)
"""Policies, in the order of the table. Rows in result files have these names, so they keep their spelling."""


def once(file: Path, work: Callable[[], Any]) -> Any:
    """Returns the contents of a JSON file; if it does not exist, does the work and writes the result to it."""
    if not file.exists():
        write_json(file, work())
    return json.loads(file.read_text())


def record(case: Case, out: Path) -> dict[str, Any]:
    """Records the episodes that are missing."""
    world, began = behaviors.make_env(case.env), time.process_time()
    with EpisodeWriter(out, behaviors.spec_of(world, None)) as writer:
        done = writer.seeds()
        for i in progress_bar(range(case.episodes), desc="record", unit="episode"):
            if i not in done:
                kind = case.mix[i % len(case.mix)]
                job = behaviors.Job(i, kind, i, case.env, env=case.env)
                acts = scripted.BEHAVIORS.get(kind)
                writer.add(behaviors.record(world, job, acts(world.env) if acts else None), i)
    return {"minutes": (time.process_time() - began) / 60}


def prepare(case: Case, work: Path) -> dict[str, Any]:
    """Records the missing episodes, and returns the numbers of episodes and steps."""
    record(case, work / "data")
    data = EpisodeDataset.load(work / "data")
    return {"episodes": len(data), "steps": int(data.lengths.sum())}


def fit(case: Case, work: Path, kind: str) -> dict[str, Any]:
    """Fits a world model, and returns its CPU minutes."""
    began, (arguments, fit_kind) = time.process_time(), FITS[kind]
    given = arguments(data=(work / "data",), out=work / kind / "world", **case.fit[kind])
    fit_kind(given, EpisodeDataset.load(work / "data"))
    return {"minutes": (time.process_time() - began) / 60}


def practise(case: Case, work: Path, kind: str, seed: int) -> dict[str, Any]:
    """Clones and practices in the dream, into clone{seed} and dream{seed}, and returns the CPU minutes."""
    began, world = time.process_time(), str(work / kind / "world")
    first = work / kind / f"clone{seed}"
    arguments = CloneArguments(data=(work / "data",), out=first, world_model=world, seed=seed, **case.clone)
    clone(arguments, [EpisodeDataset.load(work / "data")], checkpoint.load(world))
    practise_from(first, case, world, work / kind / f"dream{seed}", seed)
    return {"minutes": (time.process_time() - began) / 60}


def practise_longer(case: Case, work: Path, kind: str, seed: int) -> dict[str, Any]:
    """Practices on with dream{seed} in the same world model, into longer{seed}; a control of co-evolution."""
    began, first = time.process_time(), work / kind / f"dream{seed}"
    practise_from(first, case, str(work / kind / "world"), work / kind / f"longer{seed}", seed)
    return {"minutes": (time.process_time() - began) / 60}


def practise_on(case: Case, work: Path, kind: str, seed: int) -> dict[str, Any]:
    """Refits the world model to real episodes of dream{seed}, which practices on in it, into coevolved{seed}.

    Returns the CPU minutes and the number of real steps.
    """
    began, first, out = time.process_time(), work / kind / f"dream{seed}", work / kind / f"coevolution{seed}"
    how: dict[str, Any] = {"workers": 1, "seed": seed, **case.coevolve}
    refit = CoevolveArguments(first, (work / "data",), out, str(work / kind / "world"), **how)
    world = coevolve.record_and_refit(refit)
    practise_from(first, case, str(world), work / kind / f"coevolved{seed}", seed)
    steps = int(EpisodeDataset.load(out / "episodes").lengths.sum())
    return {"minutes": (time.process_time() - began) / 60, "steps": steps}


def practise_from(first: Path, case: Case, world_model: str, out: Path, seed: int) -> None:
    """Practices in the dream, beginning with a policy."""
    asked = TrainArguments(out=out, init=str(first), world_model=world_model, seed=seed, env=case.env, **case.train)
    train(asked, make_env(asked), None)


def evaluate(policy: str, case: Case, world_model: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Evaluates a policy in the real environment, on consecutive seeds."""
    played = play_real(policy, case.env, str(world_model), episodes, seed)
    return {"won": int(np.sum(played.success)), "episodes": episodes}


def her(case: Case, steps: int, episodes: int, seed: int, first: int) -> dict[str, Any]:
    """Trains SAC with hindsight replay in the real environment on true positions, and evaluates it like the others."""
    from stable_baselines3 import SAC, HerReplayBuffer

    horizon = getattr(gym.make(case.env).spec, "max_episode_steps", None)  # this also imports panda-gym
    began, env = time.process_time(), gym.make(case.own, max_episode_steps=horizon)
    agent = SAC(
        "MultiInputPolicy", env, seed=seed, learning_starts=500, replay_buffer_class=HerReplayBuffer, gamma=0.95
    )
    agent.learn(steps)
    minutes, won = (time.process_time() - began) / 60, 0
    for i in range(episodes):
        obs, info = env.reset(seed=first + i)
        for _ in range(horizon or 0):  # no early termination: success counts at the end
            obs, _, _, _, info = env.unwrapped.step(agent.predict(obs, deterministic=True)[0])
        won += bool(info["is_success"])
    return {"won": won, "episodes": episodes, "minutes": minutes}


def run(args: Arguments, name: str) -> list[dict[str, Any]]:
    """Runs the missing parts of a case, and returns its rows."""
    case, work, seeds = size(name, args.short), args.work / name, range(args.seeds)
    steps = once(work / "prepared.json", lambda: prepare(case, work))["steps"]
    first = HELD_OUT_SEED if args.held_out else VALIDATION_SEED
    rows: list[dict[str, Any]] = []

    def real(label: str, policy: str, world: Path) -> dict[str, Any]:
        file = work / f"{label}_{first}.json"
        return once(file, partial(evaluate, policy, case, world, args.evaluated, first))

    def row(policy: str, found: list[dict[str, Any]], kind: str = "", real_steps: int = 0, **more: float) -> None:
        won, total = (sum(one[part] for one in found) for part in ("won", "episodes"))
        one: dict[str, Any] = {"task": name, "policy": policy, "world_model": kind}
        one |= {"success": wilson(won, total)._asdict(), "episodes": total, "seeds": len(found)}
        one |= {"each": [round(part["won"] / part["episodes"], 3) for part in found], "real_steps": real_steps}
        rows.append(one | {key: round(value, 1) for key, value in more.items()})

    def score(kind: str, folder: str, seed: int) -> dict[str, Any]:
        world = work / kind / (f"coevolution{seed}/world_model" if folder == "coevolved" else "world")
        return real(f"{kind}_{folder}{seed}", str(work / kind / f"{folder}{seed}"), world)

    for kind in args.kinds:
        world = work / kind / "world"
        fitted = once(work / kind / "fitted.json", partial(fit, case, work, kind))
        practised = [once(work / kind / f"practised{s}.json", partial(practise, case, work, kind, s)) for s in seeds]
        if not rows:
            row(RANDOM, [real("random", "random", world)])
        minutes = {"minutes": mean_minutes(practised), "fit_minutes": fitted["minutes"]}
        cloned = DEMONSTRATED if "demonstrations" in case.clone else CLONE
        for policy, folder, more in ((cloned, "clone", {}), (PRACTISED, "dream", minutes)):
            row(policy, [score(kind, folder, s) for s in seeds], kind, steps, **more)
        if case.coevolve:
            longer = [
                once(work / kind / f"longer{s}.json", partial(practise_longer, case, work, kind, s)) for s in seeds
            ]
            spent = minutes["minutes"] + mean_minutes(longer)
            row(LONGER, [score(kind, "longer", s) for s in seeds], kind, steps, minutes=spent)
            again = [once(work / kind / f"coevolved{s}.json", partial(practise_on, case, work, kind, s)) for s in seeds]
            found = [score(kind, "coevolved", s) for s in seeds]
            steps += round(np.mean([part["steps"] for part in again]))
            row(COEVOLVED, found, kind, steps, minutes=minutes["minutes"] + mean_minutes(again))
    if args.her:
        play = partial(her, case, steps, args.evaluated, first=first)
        trained = [once(work / f"her{s}_{first}.json", partial(play, seed=s)) for s in seeds]
        row(HER, trained, real_steps=steps, minutes=mean_minutes(trained))
    return rows


def mean_minutes(parts: list[dict[str, Any]]) -> float:
    """Returns the mean CPU minutes of parts of the study."""
    return float(np.mean([part["minutes"] for part in parts]))


def main(args: Arguments) -> None:
    """Runs the command; rows of other cases in an existing result file are kept."""
    check_out(args.out)
    file, command = args.out / "your_robot.json", command_line("studies.your_robot", args)
    rows = {key(row): row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}
    for name in args.cases:
        rows |= {key(row): row | {"command": command} for row in run(args, name)}
    ordered = sorted(rows.values(), key=lambda row: (CASES.index(row["task"]), POLICIES.index(row["policy"])))
    write_json(file, {"summary": summary(ordered, args.kinds[0]), "rows": ordered})
    text = table(ordered)
    write_text(args.out / "your_robot.md", text)
    print(text)


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the key that identifies a row."""
    return row["task"], row["policy"], row["world_model"]


def summary(rows: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Returns the success rate of each task at the end of practice with a kind of world model."""
    return {
        f"panda_{row['task']}": row["success"]["value"]
        for row in rows  # those after co-evolution come last
        if row["policy"] in (PRACTISED, COEVOLVED) and row["world_model"] == kind
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Renders the rows as Markdown."""
    lines = []
    for row in rows:
        success = row["success"]
        rate = f"{success['value']:.0%} ({success['low']:.0%} to {success['high']:.0%})"
        counted = [row["seeds"], row["episodes"], row["real_steps"] or ""]
        spent = [row.get("minutes", ""), row.get("fit_minutes", "")]
        policy = row["policy"].replace("practised", "practiced")
        lines.append([row["task"], policy, row["world_model"], rate, *counted, *spent])
    header = ["task", "policy", "world model", "success in the real environment", "training seeds", "episodes"]
    header += ["real steps", "CPU minutes", "of the fit"]
    calls = "".join(f"- `{command}`\n" for command in dict.fromkeys(row["command"] for row in rows))
    return (
        "panda-gym by pictures: policies see what two cameras see, feel where their own hand is, and are shown a "
        "picture of the goal. Success at the end of the episode, on held-out seeds, 95 % Wilson intervals, all "
        "training seeds together. Real steps: those recorded, or trained on. Those of push are play, a scripted hand "
        "that pushes the cube to random places of the table. Those of push_demonstrated are play and demonstrations, "
        "half each, of which clones imitate 25, and then episodes of the practiced policy. SAC + HER is shown neither. "
        "CPU minutes: cloning and practice, of each policy, with co-evolution; and the fit of the world model.\n\n"
        f"{calls}\n{markdown_table(header, lines)}\n"
    )

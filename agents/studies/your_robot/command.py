"""Somebody else's robot: `python -m agents.studies.your_robot --out results` remakes results/your_robot.json and .md.

panda-gym's reach and push by pictures alone, the goal a picture too: record, fit a world model, clone from hindsight
(no demonstration), practise in the dream by the distance to the goal picture, evaluate in the real environment. Beside
it random actions, the policy before practice, and SAC with hindsight replay in the real environment on true positions.
What is finished is kept in `--work`; a killed study goes on when the same command is given again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.agents.clone.transformer_arguments import Arguments as CloneArguments
from dream_env.agents.clone.transformer_clone import clone
from dream_env.agents.data import behaviors
from dream_env.agents.eval.any_world import play_real
from dream_env.agents.eval.statistics import markdown_table, wilson
from dream_env.agents.fit.dynamics_arguments import Arguments as FitArguments
from dream_env.agents.fit.dynamics_fit import fit
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.your_robot import panda
from dream_env.agents.studies.your_robot.arguments import Arguments
from dream_env.agents.train.arguments import Arguments as TrainArguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.writer import EpisodeWriter
from dream_env.files import write_json, write_text
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

HELD_OUT_SEED = 300_000
"""Real seeds from here on are evaluated on; reach with one camera, which two replaced, was played on them too."""


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        env: Id of the environment.
        own: Id of panda-gym's, which shows true numbers.
        mix: What is recorded: names of behaviors, and "play"; in turn.
        episodes: How many are recorded.
        fit: Arguments of the fit.
        clone: Arguments of the clone.
        train: Arguments of practice.
    """

    env: str
    own: str
    mix: tuple[str, ...]
    episodes: int
    fit: dict[str, Any] = field(default_factory=dict)
    clone: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


_FIT = {"memory": 0, "members": 3, "latent": 24, "picture_noise": 0.1}
_CLONE = {"goal": True, "hindsight": 1.0, "held_out": 0.0, "updates": 1000, "noise": 0.05}
_TRAIN = {"reward": "energy", "n_envs": 128, "steps": 100_000, "validation_episodes": 0}
SIZES = {
    "reach": Case(
        panda.REACH, "PandaReach-v3", ("held", "correlated"), 250,
        _FIT | {"picture_updates": 1200, "updates": 1000}, _CLONE, _TRAIN,
    ),
    "push": Case(
        panda.PUSH, "PandaPush-v3", ("play",), 200,
        _FIT | {"picture_updates": 800, "updates": 1000, "latent": 32}, _CLONE, _TRAIN,
    ),
}  # fmt: skip
SHORT: dict[str, Any] = {
    "fit": {"picture_updates": 2, "updates": 2, "width": 8, "batch": 4},
    "clone": {"updates": 2, "batch": 8, "width": 16, "latents": 2, "depth": 1},
    "train": {"n_envs": 2, "steps": 80},
}


def size(case: str, short: bool) -> Case:
    """Returns a case, at toy size if `short`."""
    one = SIZES[case]
    if not short:
        return one
    return replace(one, episodes=3, **{name: getattr(one, name) | values for name, values in SHORT.items()})


def once(file: Path, work: Callable[[], Any]) -> Any:
    """Returns what a file keeps of some work, which is done if it is not there."""
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
                writer.add(behaviors.record(world, job, panda.play(world.env) if kind == "play" else None), i)
    return {"minutes": (time.process_time() - began) / 60}


def prepare(case: Case, work: Path) -> dict[str, Any]:
    """Records, and fits the world model, whose CPU minutes it returns."""
    record(case, work / "data")
    began = time.process_time()
    data = EpisodeDataset.load(work / "data")
    fit(FitArguments(data=(work / "data",), out=work / "world", **case.fit), data)
    return {"episodes": len(data), "steps": int(data.lengths.sum()), "minutes": (time.process_time() - began) / 60}


def practise(case: Case, work: Path, seed: int) -> dict[str, Any]:
    """Clones from hindsight and practises in the dream, into clone{seed} and dream{seed}."""
    began, world = time.process_time(), str(work / "world")
    first, last = work / f"clone{seed}", work / f"dream{seed}"
    arguments = CloneArguments(data=(work / "data",), out=first, world_model=world, seed=seed, **case.clone)
    clone(arguments, [EpisodeDataset.load(work / "data")], checkpoint.load(world))
    asked = TrainArguments(out=last, init=str(first), world_model=world, seed=seed, env=case.env, **case.train)
    train(asked, make_env(asked), None)
    return {"minutes": (time.process_time() - began) / 60}


def evaluate(policy: str, case: Case, work: Path, episodes: int) -> dict[str, Any]:
    """Plays a policy in the real environment."""
    played = play_real(policy, case.env, str(work / "world"), episodes, HELD_OUT_SEED)
    return {"won": int(np.sum(played.success)), "episodes": episodes}


def her(case: Case, steps: int, episodes: int, seed: int) -> dict[str, Any]:
    """Trains SAC with hindsight replay in the real environment, on true positions, and plays it as we play ours."""
    from stable_baselines3 import SAC, HerReplayBuffer

    horizon = getattr(gym.make(case.env).spec, "max_episode_steps", None)  # which imports panda-gym, too
    began, env = time.process_time(), gym.make(case.own, max_episode_steps=horizon)
    agent = SAC(
        "MultiInputPolicy", env, seed=seed, learning_starts=500, replay_buffer_class=HerReplayBuffer, gamma=0.95
    )
    agent.learn(steps)
    minutes, won = (time.process_time() - began) / 60, 0
    for i in range(episodes):
        obs, info = env.reset(seed=HELD_OUT_SEED + i)
        for _ in range(horizon or 0):  # it is not over once it is there: success counts at the end, as with ours
            obs, _, _, _, info = env.unwrapped.step(agent.predict(obs, deterministic=True)[0])
        won += bool(info["is_success"])
    return {"won": won, "episodes": episodes, "minutes": minutes}


def run(args: Arguments, name: str) -> dict[str, Any]:
    """Does what is missing of a case, and returns its entry."""
    case, work = size(name, args.short), args.work / name
    told = once(work / "prepared.json", lambda: prepare(case, work))
    rows: dict[str, dict[str, Any]] = {}

    def row(label: str, found: list[dict[str, Any]], **more: Any) -> None:
        won, total = (sum(one[key] for one in found) for key in ("won", "episodes"))
        minutes = [one["minutes"] for one in found if "minutes" in one]
        rows[label] = {"success": wilson(won, total)._asdict(), "episodes": total, **more}
        if minutes:
            rows[label]["minutes"] = round(float(np.mean(minutes)), 1)

    seeds, count = range(args.seeds), args.evaluated
    practised = [once(work / f"practised{s}.json", partial(practise, case, work, s)) for s in seeds]
    row("random actions", [once(work / "random.json", lambda: evaluate("random", case, work, count))])
    for label, folder in (("clone from hindsight", "clone"), ("practised in the dream", "dream")):
        found = [
            once(
                work / f"{folder}{s}_real.json",
                partial(evaluate, str(work / f"{folder}{s}"), case, work, count),
            )
            for s in seeds
        ]
        if folder == "dream":
            found = [one | minutes for one, minutes in zip(found, practised, strict=True)]
        row(label, found, real_steps=told["steps"])
    if args.her:
        trained = [once(work / f"her{s}.json", partial(her, case, told["steps"], count, s)) for s in seeds]
        row("SAC + HER, real, true positions", trained, real_steps=told["steps"])
    return {"episodes": told["episodes"], "steps": told["steps"], "fit_minutes": told["minutes"], "rows": rows}


def main(args: Arguments) -> None:
    """Runs the command; cases that the results hold and that are not asked for stay as they are."""
    check_out(args.out)
    file, command = args.out / "your_robot.json", command_line("studies.your_robot", args)
    cases: dict[str, Any] = json.loads(file.read_text())["cases"] if file.exists() else {}
    for name in args.cases:
        cases[name] = {"command": command, "seeds": args.seeds, **run(args, name)}
    summary = {
        f"panda_{name}": one["rows"]["practised in the dream"]["success"]["value"] for name, one in cases.items()
    }
    write_json(file, {"summary": summary, "cases": cases})
    text = table(cases)
    write_text(args.out / "your_robot.md", text)
    print(text)


def table(cases: dict[str, Any]) -> str:
    """Writes the cases as markdown."""
    rows = []
    for name, case in cases.items():
        for label, row in case["rows"].items():
            success = row["success"]
            told = f"{success['value']:.0%} ({success['low']:.0%} to {success['high']:.0%})"
            real = [row.get("real_steps", ""), row.get("minutes", "")]
            rows.append([name, label, told, row["episodes"], *real])
    header = ["task", "policy", "success in the real environment", "episodes", "real steps", "CPU minutes"]
    fits = ", ".join(f"{case['fit_minutes']:.1f} ({name})" for name, case in cases.items())
    calls = "".join(f"- {name}, {case['seeds']} training seeds: `{case['command']}`\n" for name, case in cases.items())
    return (
        "panda-gym by pictures: policies see what two cameras see, and a picture of the goal; success at the end of "
        "the episode, on held-out seeds, 95 % Wilson intervals, all training seeds together. Real steps: those "
        "recorded, or trained on. CPU minutes: cloning and practice, of each policy; the fit of the world model took "
        f"{fits}.\n\n"
        f"{calls}\n{markdown_table(header, rows)}\n"
    )

"""Measures the success of the scripted experts of all NICOL tasks, and the speed of recording them.

    python -m agents.studies.experts

Running the same command again resumes an interrupted run. The report covers all finished episodes.

The starts are all those that the seeds draw. This includes starts that the environment would reject because the expert
fails to produce the goal picture. The expert acts once from each start, until the task is done and the hand stands
still, or the steps of the task are used up.
"""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from dream_env.agents.data.behaviors import Job
from dream_env.agents.eval.statistics import markdown_table, wilson
from dream_env.agents.nicol import behaviors
from dream_env.agents.run import hashing
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import command_line
from dream_env.agents.studies.experts.arguments import Arguments
from dream_env.checks import check_choice, check_number
from dream_env.files import replacing, write_json
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.episode_start import Crowded, draw_start
from dream_env.nicol.goal_renderer import GoalRenderer
from dream_env.nicol.physics import Physics
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.tasks import STANDARD, TASKS
from dream_env.progress import progress_bar

PICTURE_SEED = 90_000
"""First seed of the scenes in experts.png."""
RECORDED = {"standard": ("lift", "place", "lift_bar"), "varied": ("lift", "place")}
"""Tasks whose recording speed is measured, by scene."""


@lru_cache
def _goals() -> GoalRenderer:
    """Creates the simulation of this process, in which the experts act."""
    return GoalRenderer("right", False)


def succeeds(cell: tuple[str, str], seed: int) -> bool | None:
    """Runs the expert from the start that a seed draws.

    Args:
        cell: Scene and task.
        seed: Seed of the start.

    Returns:
        Whether the expert succeeded; None if the table has no room for the task's objects.
    """
    scene, task = cell
    try:
        start = draw_start(seeding.np_random(seed)[0], task, {}, Physics(), SHIFTS["none"], SCENES[scene])
    except Crowded:
        return None
    return _goals().picture(start, start.physics) is not None


def _job(job: tuple[tuple[str, str], int]) -> dict[str, Any]:
    (scene, task), seed = job
    return {"scene": scene, "task": task, "seed": seed, "success": succeeds(*job)}


def rate(scene: str, task: str, episodes: int) -> float:
    """Returns the control steps, with pictures, that are recorded per second of CPU time.

    The time includes resets, in which the expert acts to produce the goal picture.
    """
    env = behaviors.make_env(task, None, scene)
    env.reset(seed=PICTURE_SEED)
    before, steps = time.process_time(), 0
    for order in range(episodes):
        steps += len(behaviors.record(env, Job(order, "demo", PICTURE_SEED + order, task)))
    return steps / (time.process_time() - before)


def measure(args: Arguments) -> dict[str, Any]:
    """Runs the missing episodes, measures the recording speed, and returns the report.

    Raises:
        ValueError: If an argument is not accepted.
    """
    check_number("episodes", args.episodes, 1)
    check_number("rate_episodes", args.rate_episodes)
    for name, given, accepted in (("tasks", args.tasks, TASKS), ("scenes", args.scenes, SCENES)):
        for value in given:
            check_choice(name, value, accepted)
    file = args.work / hashing.physics() / "episodes.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    played = read(file)
    jobs = [
        ((scene, task), seed)
        for scene in args.scenes
        for task in args.tasks
        for seed in range(args.seed, args.seed + args.episodes)
        if (scene, task, seed) not in played
    ]
    with (
        file.open("a", encoding="utf-8") as lines,
        progress_bar(total=len(jobs), desc="experts", unit="episode") as bar,
    ):
        for one in pool.imap(_job, jobs, args.workers):
            lines.write(json.dumps(one) + "\n")
            lines.flush()
            bar.update()
    played = read(file)
    rows = []
    for scene, task in ((scene, task) for scene in SCENES for task in TASKS):
        results = [won for (where, what, _), won in played.items() if (where, what) == (scene, task)]
        if not results:
            continue
        known = [won for won in results if won is not None]
        rows.append(
            {"scene": scene, "task": task, "episodes": len(known), "successes": sum(known)}
            | wilson(sum(known), len(known))._asdict()
            | {"no_room": len(results) - len(known), "horizon": TASKS[task].horizon}
        )
    pairs = [(scene, task) for scene, tasks in RECORDED.items() for task in tasks] if args.rate_episodes else []
    rates = {f"{scene} {task}": round(rate(scene, task, args.rate_episodes), 1) for scene, task in pairs}
    return {
        "command": command_line("studies.experts", args),
        "seed": args.seed,
        "rows": rows,
        "steps_per_core_second": rates,
        "load": os.getloadavg()[0],
    }


def read(file: Path) -> dict[tuple[str, str, int], bool | None]:
    """Reads finished episodes: maps scene, task and seed to the outcome. Incomplete lines are skipped."""
    played: dict[tuple[str, str, int], bool | None] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            one = json.loads(line)
            played[one["scene"], one["task"], one["seed"]] = one["success"]
        except (ValueError, KeyError):
            continue
    return played


def table(report: dict[str, Any]) -> str:
    """Renders the report as Markdown."""
    shown = [
        [row["scene"], row["task"], row["horizon"], f"{row['successes']} of {row['episodes']}", _percent(row)]
        for row in report["rows"]
    ]
    text = markdown_table(["scene", "task", "steps", "successes", "success (95 % Wilson)"], shown) + "\n"
    for name, value in report["steps_per_core_second"].items():
        text += f"\nRecording {name}: {value:.0f} control steps in a second of one core, with picture and goal."
    return text + f"\n\nLoad of the machine at the end: {report['load']:.1f}.\n"


def _percent(row: dict[str, Any]) -> str:
    return f"{100 * row['value']:.1f} % ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def sheet() -> np.ndarray:
    """Returns a picture `(H, W, 3)` uint8 with start, goal and end of the newer tasks, and twelve varied scenes."""
    new = [task for task in TASKS if task not in STANDARD]
    rows = [np.concatenate([part for i in range(4) for part in _episode(task, PICTURE_SEED + i)], 1) for task in new]
    env = NicoLRealEnv("reach", scene="varied")
    scenes = [_framed(env.reset(seed=PICTURE_SEED + i)[0]["pixels"]) for i in range(12)]
    env.close()
    picture = np.concatenate([*rows, np.concatenate(scenes, 1)])
    return np.kron(picture, np.ones((2, 2, 1), np.uint8))


def _episode(task: str, seed: int) -> list[np.ndarray]:
    """Returns the start, goal and final pictures of an episode of the expert."""
    env = NicoLRealEnv(task)
    first, _ = env.reset(seed=seed)
    last, goal = first, env.goal_image
    for _ in range(env.episode_steps):
        last, *_ = env.step(env.expert_action())
    env.close()
    return [_framed(picture) for picture in (first["pixels"], goal, last["pixels"])]


_framed = partial(np.pad, pad_width=((1, 1), (1, 1), (0, 0)), constant_values=255)


def main(args: Arguments) -> None:
    """Runs the command."""
    from PIL import Image

    report = measure(args)
    write_json(args.out / "experts.json", report)
    (args.out / "experts.md").write_text(table(report), encoding="utf-8")
    with replacing(args.out / "experts.png") as part:
        Image.fromarray(sheet()).save(part, "PNG")
    print(table(report))
    print(f"Figures: {(args.out / 'experts.json').resolve()}")

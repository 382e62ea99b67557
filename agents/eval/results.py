"""Results of episodes: saving and loading, success rates, and the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from dream_env.agents.eval.statistics import (
    UNKNOWN,
    Interval,
    markdown_table,
    mcnemar,
    p_text,
    paired_difference,
    wilson,
)
from dream_env.files import write_json, write_text
from dream_env.nicol.language import color_of

Instruction = Literal["normal", "swapped", "shuffled", "absent", "heldout"]
Goal = Literal["own", "other"]
World = Literal["physics", "dream"]
WORLDS: tuple[World, ...] = get_args(World)


@dataclass(frozen=True)
class EpisodeResult:
    """Result of one episode.

    Attributes:
        label: Name of the policy.
        world: World in which the episode ran.
        task: Name of the task.
        seed: Seed of the episode.
        spoken: Instruction given to the policy.
        solved_at_start: Whether the success condition held before the first step.
        success: Whether the success condition held at the end.
        total: Sum of the rewards.
        distance: Distance to the goal embedding at the end; None without a world model.
        named: Color of the cube that the original instruction names; None in a dream.
        touched: Color of the cube that the robot touched first; None in a dream, or if it touched none.
        confirmed: Whether the same actions succeed in physics, open loop, see `Batch.confirm`; None if not tested.
        milliseconds: CPU time of the policy per action (ms); None if not measured.
    """

    label: str
    world: World
    task: str
    seed: int
    spoken: str
    solved_at_start: bool
    success: bool
    total: float
    distance: float | None
    named: str | None = None
    touched: str | None = None
    confirmed: bool | None = None
    milliseconds: float | None = field(default=None, compare=False)

    @property
    def told(self) -> str | None:
        """Color in the instruction given to the policy; None if the instruction names no color."""
        try:
            return color_of(self.spoken)
        except ValueError:
            return None


def by_start(results: Iterable[EpisodeResult], label: str, world: World = "physics") -> dict[tuple[str, int], float]:
    """Returns the successes, 0 or 1, of a policy in a world by task and seed."""
    return {(r.task, r.seed): float(r.success) for r in results if (r.label, r.world) == (label, world)}


@dataclass(frozen=True)
class Clip:
    """One episode in both worlds, from the same initial state under the same actions.

    Attributes:
        task: Name of the task.
        instruction: Instruction given to the policy; "" for none.
        success: Whether the episode succeeded in the real environment; None if this is not known.
        physics: Pictures of the policy's camera in the real environment, `(T + 1, H, W, 3)` uint8.
        dream: Pictures of the decoder, `(T + 1, H, W, 3)` uint8.
        real: Name of the real environment above its pictures.
    """

    task: str
    instruction: str
    success: bool | None
    physics: np.ndarray
    dream: np.ndarray
    real: str = "physics"


def summarize(results: Iterable[EpisodeResult]) -> dict[str, list[dict[str, Any]]]:
    """Summarizes episodes per policy, world and task, and compares policies on paired seeds.

    Episodes that were solved at the start are dropped.

    Returns:
        `rows` with success rate, its interval, mean return and mean final distance; and `comparisons` of the first
        policy with each other policy: the paired difference of success, its interval and McNemar's p-value. The task
        "all" pools the tasks.
    """
    everything = list(results)
    kept = [o for o in everything if not o.solved_at_start]
    tasks = list(dict.fromkeys(o.task for o in everything))
    labels = list(dict.fromkeys(o.label for o in everything))
    rows, comparisons = [], []
    for world in WORLDS:
        for task in [*tasks, "all"] if len(tasks) > 1 else tasks:
            solved: dict[str, dict[tuple[str, int], bool]] = {}
            for label in labels:
                own = [o for o in kept if (o.world, o.label) == (world, label) and task in (o.task, "all")]
                if own:
                    solved[label] = {(o.task, o.seed): o.success for o in own}
                    rows.append(_row(label, world, task, own))
            for label in list(solved)[1:]:
                first = next(iter(solved))
                common = [key for key in solved[first] if key in solved[label]]
                before = [solved[first][key] for key in common]
                after = [solved[label][key] for key in common]
                comparisons.append(
                    {"before": first, "after": label, "world": world, "task": task}
                    | {"episodes": len(common), "p": mcnemar(before, after)}
                    | paired_difference(before, after)._asdict()
                )
    return {"rows": rows, "comparisons": comparisons}


def _row(label: str, world: World, task: str, own: Sequence[EpisodeResult]) -> dict[str, Any]:
    distances = [o.distance for o in own if o.distance is not None]
    times = [o.milliseconds for o in own if o.milliseconds is not None]
    return {
        "policy": label,
        "world": world,
        "task": task,
        "episodes": len(own),
        "successes": sum(o.success for o in own),
        **wilson(sum(o.success for o in own), len(own))._asdict(),
        "return": float(np.mean([o.total for o in own])),
        "distance": float(np.mean(distances)) if distances else None,
        "confirmed": confirmed(own),
        "milliseconds": float(np.mean(times)) if times else None,
    }


def confirmed(results: Iterable[EpisodeResult]) -> float | None:
    """Returns the share of successes that physics confirms; None if no success was tested."""
    asked = [o.confirmed for o in results if o.success and o.confirmed is not None]
    return float(np.mean(asked)) if asked else None


def interval(summary: Mapping[str, Any], policy: str, world: str, task: str) -> Interval:
    """Returns the success rate of a policy in a world on a task; nan if the summary has none."""
    for row in summary["rows"]:
        if (row["policy"], row["world"], row["task"]) == (policy, world, task):
            return Interval(row["value"], row["low"], row["high"])
    return UNKNOWN


def tables(summary: Mapping[str, Any]) -> str:
    """Formats the summary as Markdown: a table with both worlds side by side, and a table of paired differences."""
    if not summary["rows"]:
        return "No episode counts: the condition of success held at every start.\n"
    found = {(r["policy"], r["world"], r["task"]): r for r in summary["rows"]}

    def pair(label: str, task: str, key: str, form: str) -> str:
        rows = [found.get((label, world, task), {}) for world in WORLDS]
        return " / ".join("–" if row.get(key) is None else format(row[key], form) for row in rows)

    lines, asked = [], any(row.get("confirmed") is not None for row in summary["rows"])
    for label, task in dict.fromkeys((r["policy"], r["task"]) for r in summary["rows"]):
        rates = [interval(summary, label, world, task).percent() for world in WORLDS]
        rest = (("episodes", "d"), ("return", ".2f"), ("distance", ".2f"))
        lines.append([label, task, *rates, *(pair(label, task, *each) for each in rest)])
        if asked:
            lines[-1].append(pair(label, task, "confirmed", ".0%"))
    header = ["policy", "task", *(f"{w} success" for w in WORLDS), "episodes", "return", "final distance"]
    text = "Success at the end of the episode, 95 % Wilson intervals; pairs are physics / dream.\n\n"
    if asked:
        header.append("confirmed")
        text = text[:-2] + (
            " Confirmed: the share of successes whose actions, carried out in physics open loop, succeed there; "
            "those of physics itself with every cube 3 mm elsewhere.\n\n"
        )
    text += markdown_table(header, lines)
    if summary["comparisons"]:
        differences = [
            [f"{c['after']} − {c['before']}", c["world"], c["task"]]
            + [Interval(c["value"], c["low"], c["high"]).points(), p_text(c["p"]), c["episodes"]]
            for c in summary["comparisons"]
        ]
        header = ["paired difference", "world", "task", "points (95 %)", "McNemar p", "pairs"]
        text += "\n\n" + markdown_table(header, differences)
    return text + "\n"


def write_report(results: Sequence[EpisodeResult], clips: Sequence[Clip], about: Mapping[str, Any], out: Path) -> str:
    """Writes results.json, results.md, results.png, episodes.jsonl, and rollouts.gif with one GIF per task.

    Args:
        results: All episodes.
        clips: Clips of the GIFs; empty writes no GIF.
        about: Further entries of results.json.
        out: Folder to write to.

    Returns:
        The text of results.md.
    """
    from dream_env.agents.eval import pictures

    summary = summarize(results)
    text = tables(summary)
    tasks = list(dict.fromkeys(row["task"] for row in summary["rows"]))
    labels = list(dict.fromkeys(row["policy"] for row in summary["rows"]))
    panels = {
        world: {label: [interval(summary, label, world, task) for task in tasks] for label in labels}
        for world in dict.fromkeys(row["world"] for row in summary["rows"])
    }
    dropped = sum(o.solved_at_start for o in results)
    write_json(out / "results.json", {**about, "dropped": dropped, **summary})
    save_results(results, out / "episodes.jsonl")
    write_text(out / "results.md", text)
    if panels:
        pictures.plot(panels, tasks, out / "results.png")
    if clips:
        pictures.gifs(clips, out / "rollouts.gif")
    return text


def save_results(results: Iterable[EpisodeResult], path: Path) -> None:
    """Writes one line of JSON per episode."""
    write_text(path, "".join(json.dumps(asdict(result)) + "\n" for result in results))


def load_results(path: Path) -> list[EpisodeResult]:
    """Reads what `save_results` wrote.

    Raises:
        ValueError: If a line is not an episode.
    """
    names = {f.name for f in fields(EpisodeResult)}
    needed = {f.name for f in fields(EpisodeResult) if f.default is MISSING}
    results = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            values = None
        if not isinstance(values, dict) or not needed <= set(values) <= names:
            raise ValueError(f"{path}, line {number} is no episode; accepted: keys {', '.join(sorted(names))}")
        results.append(EpisodeResult(**values))
    return results

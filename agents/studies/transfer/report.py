"""The result files of the transfer experiment: transfer.json, transfer.md and transfer.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.transfer.plan import CONTROL_INSTRUCTIONS, CONTROL_SHIFTS, MAIN, METHODS, MODEL_FREE, WALL
from dream_env.agents.studies.transfer.results import Results, cells
from dream_env.agents.studies.transfer.summary import summarize, targets
from dream_env.files import write_json, write_text
from dream_env.nicol.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "transfer"
"""Name of the result files."""


def write(results: Results, about: dict[str, Any], out: Path) -> str:
    """Writes all result files and returns the Markdown.

    Args:
        results: All trials that are done.
        about: What to keep in the JSON beside the figures.
        out: Folder to write into.
    """
    few = _few(results)
    few_table = table(few) if few else []
    summary = summarize(results)
    report = {
        **about,
        "summary": summary,
        "targets": targets(summary),
        "table": table(results),
        "conditions": conditions(results),
        "by_demos": by_demos(results),
        "few": few and {"demos": few.demos, "summary": summarize(few), "table": few_table},
        "cells": cells(results),
    }
    text = "\n\n".join(
        f"{title}\n\n{markdown_table(list(rows[0]), [list(row.values()) for row in rows])}"
        for title, rows in (
            (_caption(results), report["table"]),
            ("What was asked for:", report["targets"]),
            (
                f"Success in physics over the demonstrations per task; {results.demos} may have more starts, of which "
                "the others have the first:",
                report["by_demos"],
            ),
            (f"From {few.demos} demonstrations per task:" if few else "", few_table),
            ("Other instructions and shifted physics, all tasks:", report["conditions"]),
        )
        if rows
    )
    write_json(out / f"{NAME}.json", report)
    write_text(out / f"{NAME}.md", text + "\n")
    draw(results, out / f"{NAME}.png")
    return text


def _few(results: Results) -> Results | None:
    """Returns the same results for a comparison at the fewest demonstrations, where there is most left to learn."""
    fewest = min((one.trial.spec.demos for one in results.played), default=results.demos)
    return replace(results, demos=fewest) if fewest < results.demos else None


def _caption(results: Results) -> str:
    seeds = len({one.trial.spec.seed for one in results.played})
    return (
        f"Success at the end of the episode, 95 % Wilson intervals; {results.demos} demonstrations per task, one "
        f"policy for all tasks, {seeds} training seeds together:"
    )


def table(results: Results) -> list[dict[str, str]]:
    """Compares the methods at the demonstrations of the main comparison."""
    rows = []
    for method in METHODS:
        for budget, steps in results.looks(method).items():
            found = results.select(method, budget=budget)
            row = {"method": method + (f" ({'equal time' if budget == WALL else budget})" if budget else "")}
            row |= {task: results.rate(method, task, budget=budget).percent() for task in [*TASKS, "all"]}
            row["all, in the dream"] = results.rate(method, world="dream", budget=budget).percent()
            row["physics steps of practice"] = f"{steps:,}"
            row["CPU minutes of practice"] = f"{max(one.made.practice_cpu_s for one in found) / 60:.1f}"
            row["episodes"] = f"{len(results.outcomes(method, budget=budget))}"
            rows.append(row)
    return rows


def conditions(results: Results) -> list[dict[str, str]]:
    """Shows what other instructions and shifted physics leave of the clone and of the policy after RL in the dream."""
    rows = []
    listed: list[dict[str, Any]] = [{}, *({"instruction": words} for words in CONTROL_INSTRUCTIONS)]
    for condition in [*listed, *({"shift": shift} for shift in CONTROL_SHIFTS)]:
        if not any(results.select(method, **condition) for method in MAIN[:2]):
            continue
        row = {"condition": " ".join(f"{value} {name}" for name, value in condition.items()) or "as practiced"}
        for method in MAIN[:2]:
            row[method] = results.rate(method, **condition).percent()
        for color in ("named", "told"):
            share, count = results.contacts("dream", color, **condition)
            row[f"dream: first contact with the {color} cube"] = f"{100 * share:.0f} % of {count}" if count else "–"
        rows.append(row)
    return rows


def by_demos(results: Results) -> list[dict[str, str]]:
    """Shows success in physics over the number of demonstrations, of methods that were given several."""
    counts = sorted({one.trial.spec.demos for one in results.played})
    return [
        {"method": method, "task": task}
        | {str(count): results.rate(method, task, demos=count).percent() for count in counts}
        for method in MAIN
        for task in [*TASKS, "all"]
        if sum(bool(results.select(method, demos=count)) for count in counts) > 1
    ]


def draw(results: Results, path: Path) -> None:
    """Draws success per method, and over demonstrations and physics steps where there are several; writes a PNG."""
    panels = [(_methods, results)]
    if len({one.trial.spec.demos for one in results.played}) > 1:
        panels.append((_demonstrations, results))
    both = (results, _few(results))
    panels += [(_practice, some) for some in both if some and any(map(some.looks, MODEL_FREE))]
    figure, grid = subplots(1, len(panels), (1 + 4.2 * len(panels), 3.8), sharey=True)
    axes = grid[0]
    axes[0].set(ylabel="success in physics (%)", ylim=(0, 104))
    for axis, (panel, some) in zip(axes, panels, strict=True):
        panel(some, axis)
    save_figure(figure, path)


def _methods(results: Results, axis: Axes) -> None:
    bars = [(m, list(results.looks(m))[-1]) for m in METHODS if results.looks(m)]
    for i, (method, budget) in enumerate(bars):
        value, low, high = (100 * x for x in results.rate(method, budget=budget))
        error = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axis.bar(i, value, color=_color(method), yerr=error, capsize=2)
    names = [method.replace("_", " ") for method, _ in bars]
    axis.set_xticks(range(len(bars)), names, fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_title(f"{results.demos} demonstrations per task")


def _demonstrations(results: Results, axis: Axes) -> None:
    counts = sorted({one.trial.spec.demos for one in results.played})
    for method in MAIN:
        points = [
            (count, *results.rate(method, demos=count)) for count in counts if results.select(method, demos=count)
        ]
        _line(axis, points, method)
    axis.set(title="more and fewer demonstrations", xlabel="demonstrations per task")
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.legend(fontsize=8)


def _practice(results: Results, axis: Axes) -> None:
    for method in MODEL_FREE:
        start = [(0, *results.rate("clone"))] if method == "ppo_physics" and results.select("clone") else []
        looks = [(steps, *results.rate(method, budget=budget)) for budget, steps in results.looks(method).items()]
        _line(axis, sorted(start + looks) if looks else [], method)
    for method in MAIN[1:]:
        points = [(steps, *results.rate(method)) for steps in results.looks(method).values()]
        _line(axis, points, method, marker="*")
    axis.set(title=f"practice after {results.demos} demonstrations", xlabel="steps of practice in physics")
    axis.locator_params(axis="x", nbins=5)
    axis.legend(fontsize=8)


def _color(method: str) -> str:
    """Returns the color of a method, alike in all panels; controls share one."""
    own = [*MAIN, *MODEL_FREE]
    return COLORS[own.index(method) if method in own else len(own)]


def _line(axis: Axes, points: Sequence[tuple[float, ...]], label: str, marker: str = "o") -> None:
    if points:
        x, value, low, high = zip(*points, strict=True)
        error = [[100 * max(0.0, v - a) for v, a in zip(value, low, strict=True)]]
        error += [[100 * max(0.0, b - v) for v, b in zip(value, high, strict=True)]]
        axis.errorbar(x, [100 * v for v in value], error, label=label, color=_color(label), marker=marker, capsize=2)

"""The result files of the transfer study: transfer.json, transfer.md and transfer.png."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.transfer.plan import CONTROL_INSTRUCTIONS, CONTROL_SHIFTS, MAIN, METHODS, WALL
from dream_env.agents.studies.transfer.results import Results, cells, summarize, targets
from dream_env.files import write_json, write_text
from dream_env.nicol.tasks import STANDARD

NAME = "transfer"
"""Name of the result files."""


def write(results: Results, about: dict[str, Any], out: Path) -> str:
    """Writes all result files and returns the Markdown.

    Args:
        results: All finished trials.
        about: Further entries of the JSON file.
        out: Folder to write to.
    """
    few = _fewest(results)
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


def _fewest(results: Results) -> Results | None:
    """Returns the results for a comparison at the fewest demonstrations, which leave the most to learn."""
    fewest = min((one.trial.spec.demos for one in results.played), default=results.demos)
    return replace(results, demos=fewest) if fewest < results.demos else None


def _caption(results: Results) -> str:
    seeds = len({one.trial.spec.seed for one in results.played})
    return (
        f"Success at the end of the episode, 95 % Wilson intervals; {results.demos} demonstrations per task, one "
        f"policy for all tasks, {seeds} training seeds together:"
    )


def table(results: Results) -> list[dict[str, str]]:
    """Compares the methods at the number of demonstrations of the main comparison."""
    rows = []
    for method in METHODS:
        for budget, steps in results.evaluations(method).items():
            found = results.select(method, budget=budget)
            row = {"method": method + (f" ({'equal time' if budget == WALL else budget})" if budget else "")}
            row |= {task: results.rate(method, task, budget=budget).percent() for task in [*STANDARD, "all"]}
            row["all, in the dream"] = results.rate(method, world="dream", budget=budget).percent()
            row["physics steps of practice"] = f"{steps:,}"
            row["CPU minutes of practice"] = f"{max(one.made.practice_cpu_s for one in found) / 60:.1f}"
            row["episodes"] = f"{len(results.episodes(method, budget=budget))}"
            rows.append(row)
    return rows


def conditions(results: Results) -> list[dict[str, str]]:
    """Compares clone and practiced policy under other instructions and shifted physics."""
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
    """Returns success in physics over the number of demonstrations, for methods with several numbers."""
    counts = sorted({one.trial.spec.demos for one in results.played})
    return [
        {"method": method, "task": task}
        | {str(count): results.rate(method, task, demos=count).percent() for count in counts}
        for method in MAIN
        for task in [*STANDARD, "all"]
        if sum(bool(results.select(method, demos=count)) for count in counts) > 1
    ]


def draw(results: Results, path: Path) -> None:
    """Plots success in physics over the demonstrations, of the clone and after practice in the dream; writes a PNG."""
    figure, axes = subplots(1, 1, (6.4, 3.6))
    axis, counts = axes[0, 0], sorted({one.trial.spec.demos for one in results.played})
    for (method, label), color in zip(DRAWN.items(), COLORS, strict=False):
        there = [count for count in counts if results.select(method, demos=count)]
        if not there:
            continue
        value, low, high = 100 * np.array([results.rate(method, demos=count) for count in there], np.float64).T
        error = np.clip([value - low, high - value], 0, None)
        axis.errorbar(there, value, error, label=label, color=color, marker="o", capsize=3)
    axis.set(xlabel="demonstrations per task", ylabel="success in physics (%)", xscale="log")
    axis.set_title("what practice adds to a clone", fontsize=11)
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


DRAWN = {
    "clone": "clone of the demonstrations",
    "dream": "then practice in the frozen dream",
    "dream_coevolved": "then 200 episodes in physics, refit, practice",
}
"""Methods of the plot, with their labels."""

"""Pictures of a fidelity report: curves, and decoded pictures beside the camera's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVERY = 3
"""Steps between two pictures of a strip."""


def strip(camera: np.ndarray, dream: np.ndarray, path: Path, zoom: int = 2) -> None:
    """Writes episodes `(N, T + 1, H, W, 3)` uint8 of both worlds as a PNG, the camera's pictures above the dream's."""
    rows = []
    for pair in zip(camera, dream, strict=True):
        rows += [np.concatenate(list(pictures[::EVERY]), axis=1) for pictures in pair]
    image = Image.fromarray(np.concatenate(rows))
    image = image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)
    with replacing(path) as part:
        image.quantize(128).save(part, format="PNG", optimize=True)


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draws a report of `dream_env.agents.fidelity` and writes a PNG."""
    tasks: dict[str, Any] = report["tasks"]
    figure, grid = subplots(2, 3, (13, 7.2))
    axes = grid.ravel()
    colors = dict(zip([*tasks, "all"], COLORS[1:], strict=False))
    _errors(axes[0], {**tasks, "all": report["all"]}, colors)
    _positions(axes[1], tasks)
    _outcomes(axes[2], tasks)
    _reliability(axes[3], {**tasks, "all": report["all"]}, colors)
    _disagreement(axes[4], report["disagreement"])
    _ranking(axes[5], tasks, colors)
    save_figure(figure, path)


def _errors(axis: Axes, parts: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    for name, part in parts.items():
        steps = np.arange(1, len(part["latent_error"]["predicted"]) + 1)
        axis.plot(steps, part["latent_error"]["predicted"], color=colors[name], label=name)
        axis.plot(steps, part["latent_error"]["copied"], color=colors[name], linestyle=":")
    axis.set(title="latent error (dotted: a copy)", xlabel="steps ahead", ylabel="error / variance", yscale="log")
    axis.legend(frameon=False)


def _positions(axis: Axes, tasks: Mapping[str, Any]) -> None:
    things = ("hand", "untouched", "moved")
    states = list(next(iter(tasks.values()))["positions"])
    width, groups = 0.8 / len(states), [(task, thing) for task in tasks for thing in things]
    for i, state in enumerate(states):
        heights = [tasks[task]["positions"][state][thing] or 0 for task, thing in groups]
        at = np.arange(len(groups)) + (i - (len(states) - 1) / 2) * width
        axis.bar(at, heights, 0.9 * width, label=state.replace("_", ", step "), color=COLORS[i])
    axis.set(title="position", ylabel="median error (cm)", xticks=range(len(groups)))
    axis.set_xticklabels([f"{task} {thing}" for task, thing in groups], rotation=60, ha="right", fontsize=7)
    axis.set_ylim(top=1.2 * axis.get_ylim()[1])  # room above the bars
    axis.legend(frameon=False, ncols=2, fontsize=8, loc="upper left")


def _outcomes(axis: Axes, tasks: Mapping[str, Any]) -> None:
    bars = [(task, kind, row) for task, part in tasks.items() for kind, row in part["outcomes"].items()]
    bars = [bar for bar in bars if bar[1] != "all"]
    bottom = np.zeros(len(bars))
    shown = {"both": COLORS[3], "neither": COLORS[0], "dream": "#c53030", "physics": COLORS[2]}
    for name, color in shown.items():
        total = [max(1, sum(row[key] for key in shown)) for *_, row in bars]
        share = 100 * np.array([row[name] for *_, row in bars]) / total
        label = name if name in ("both", "neither") else f"{name} only"
        axis.bar(range(len(bars)), share, 0.8, bottom, label=label, color=color)
        bottom += share
    axis.set(title="solved, same actions in both worlds", ylabel="episodes (%)", xticks=range(len(bars)))
    axis.set_xticklabels([f"{task} {kind}" for task, kind, _ in bars], rotation=60, ha="right", fontsize=7)
    axis.set_ylim(0, 125)
    axis.legend(frameon=False, ncols=2, fontsize=8, loc="upper left")


def _reliability(axis: Axes, parts: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    axis.plot([0, 1], [0, 1], color="#cccccc", linewidth=0.8)
    for name, part in parts.items():
        curve = part["success"]["all"]["reliability"]
        axis.plot([c[0] for c in curve], [c[1] for c in curve], "o-", markersize=3, color=colors[name], label=name)
    axis.set(title="success head on dreamt states", xlabel="predicted probability", ylabel="true rate")


def _disagreement(axis: Axes, disagreement: Mapping[str, Any]) -> None:
    told, error = (np.asarray(disagreement["scatter"][key]) for key in ("disagreement", "error"))
    axis.loglog(told, error, ".", markersize=3, color=COLORS[1])
    value = disagreement["rollout_24"]["sum"]
    title = "disagreement and error of whole rollouts" + (f" ({value:.2f})" if value is not None else "")
    axis.set(title=title, xlabel="summed disagreement", ylabel="error at the end")


def _ranking(axis: Axes, tasks: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    axis.plot([0, 100], [0, 100], color="#cccccc", linewidth=0.8)
    for task, part in tasks.items():
        rows: Sequence[Mapping[str, Any]] = part["policies"]["rows"] if part["policies"] else []
        points = 100 * np.array([(row["physics"], row["dream"]) for row in rows], np.float64).reshape(-1, 2)
        axis.plot(points[:, 0], points[:, 1], "o", markersize=4, alpha=0.7, color=colors[task], label=task)
    axis.set(title="policies", xlabel="success in physics (%)", ylabel="success in the dream (%)")
    axis.set(xlim=(-3, 103), ylim=(-3, 103))
    axis.legend(frameon=False, loc="upper left")

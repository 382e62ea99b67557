"""Pictures of a fidelity report: four plots, and strips of decoded pictures below the camera pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.agents.eval.statistics import wilson
from dream_env.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVERY = 3
"""Steps between two pictures of a strip."""
FEWEST = 5
"""States below which a bin of the calibration plot is left out: its rate would be noise."""


def strip(camera: np.ndarray, dream: np.ndarray, actors: Sequence[str], path: Path, zoom: int = 2) -> None:
    """Draws labeled episodes, the camera pictures above the pictures of the dream, and writes a PNG.

    Args:
        camera: Recorded pictures, `(N, T + 1, H, W, 3)` uint8.
        dream: Decoded pictures under the same actions, same shape.
        actors: Name of the behavior in each episode.
        path: File to write.
        zoom: Enlargement factor.
    """
    rows = [np.concatenate(list(one[::EVERY]), axis=1) for pair in zip(camera, dream, strict=True) for one in pair]
    image = Image.fromarray(np.concatenate(rows))
    image = image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)
    image = label(image, actors, range(0, camera.shape[1], EVERY))
    with replacing(path) as part:
        image.quantize(128).save(part, format="PNG", optimize=True)


def label(image: Image.Image, actors: Sequence[str], steps: Sequence[int]) -> Image.Image:
    """Labels each row of a strip with the behavior and the world, and each column with the step."""
    left, top, font = 110, 24, ImageFont.load_default(15)
    canvas = Image.new("RGB", (left + image.width, top + image.height), "white")
    canvas.paste(image.convert("RGB"), (left, top))
    draw = ImageDraw.Draw(canvas)
    wide, high = image.width // len(steps), image.height // (2 * len(actors))
    for column, step in enumerate(steps):
        draw.text((left + column * wide + 4, 4), f"step {step}", "#222222", font)
    for row, actor in enumerate(actors):
        for world, name in enumerate(("physics", "dream")):
            draw.text((6, top + (2 * row + world) * high + 6), f"{actor}\n{name}", "#222222", font)
    return canvas


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Plots a report of `dream_env.agents.fidelity` in four panels, and writes a PNG."""
    tasks: dict[str, Any] = report["tasks"]
    figure, axes = subplots(2, 2, (8.6, 7))
    _errors(axes[0, 0], tasks)
    _solved(axes[0, 1], tasks)
    _calibration(axes[1, 0], report["all"]["success"]["all"]["reliability"])
    _ranking(axes[1, 1], tasks)
    save_figure(figure, path)


def _errors(axis: Axes, tasks: Mapping[str, Any]) -> None:
    for (name, part), color in zip(tasks.items(), COLORS[1:], strict=False):
        error = part["latent_error"]
        axis.plot(range(1, len(error["predicted"]) + 1), error["predicted"], color=color, label=name)
        axis.plot(range(1, len(error["copied"]) + 1), error["copied"], color=color, linestyle=":")
    axis.set(title="error of dreams (dotted: of a copy)", xlabel="steps ahead", ylabel="token error / variance")
    axis.set_yscale("log")
    axis.legend(frameon=False)


def _solved(axis: Axes, tasks: Mapping[str, Any]) -> None:
    bottom = np.zeros(len(tasks))
    shown = {"both": COLORS[3], "neither": COLORS[0], "dream": "#c53030", "physics": COLORS[2]}
    for name, color in shown.items():
        rows = [part["outcomes"]["all"] for part in tasks.values()]
        share = np.array([100 * row[name] / max(1, sum(row[key] for key in shown)) for row in rows])
        label = name if name in ("both", "neither") else f"{name} only"
        axis.bar(list(tasks), share, 0.7, bottom, label=label, color=color)
        bottom += share
    axis.set(title="solved by the same actions", ylabel="episodes (%)", ylim=(0, 128))
    axis.legend(frameon=False, ncols=2, loc="upper left")


def _calibration(axis: Axes, curve: Sequence[Sequence[float]]) -> None:
    predicted, true, count = np.array([one for one in curve if one[2] >= FEWEST], np.float64).reshape(-1, 3).T
    axis.plot([0, 1], [0, 1], color="#cccccc", linewidth=0.8)
    ends = np.array([wilson(round(rate * n), int(n))[1:] for rate, n in zip(true, count, strict=True)]).reshape(-1, 2)
    axis.errorbar(predicted, true, np.abs(ends.T - true), fmt="none", color=COLORS[1], capsize=2)
    axis.scatter(predicted, true, 12 + 60 * count / max(count.max(initial=1), 1), color=COLORS[1])
    axis.set(title="calibration of success (area: states)", xlabel="predicted probability", ylabel="true rate")
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))


def _ranking(axis: Axes, tasks: Mapping[str, Any]) -> None:
    axis.plot([0, 100], [0, 100], color="#cccccc", linewidth=0.8)
    for (task, part), color in zip(tasks.items(), COLORS[1:], strict=False):
        rows: Sequence[Mapping[str, Any]] = part["policies"]["rows"] if part["policies"] else []
        points = 100 * np.array([(row["physics"], row["dream"]) for row in rows], np.float64).reshape(-1, 2)
        axis.plot(points[:, 0], points[:, 1], "o", markersize=4, alpha=0.7, color=color, label=task)
    axis.set(title="policies in both worlds", xlabel="success in physics (%)", ylabel="success in the dream (%)")
    axis.set(xlim=(-3, 103), ylim=(-3, 103))
    axis.legend(frameon=False, loc="upper left")

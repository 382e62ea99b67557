"""Pictures of an evaluation: bars with intervals, and both worlds under the same actions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.eval.results import Clip
from dream_env.agents.eval.statistics import Interval
from dream_env.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIF_BYTES = 1_500_000
"""Largest size of a GIF; bigger ones are drawn smaller."""
TILES = (160, 128, 96, 64)
"""Sides of one picture in the GIF to try, in pixels."""
COLORS = ("#9aa5b1", "#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b7791f")


def subplots(rows: int, columns: int, size: tuple[float, float], **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Makes a figure of panels without top and right spines.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        size: Width and height, in inches.
        **kwargs: Of `Figure.subplots`.

    Returns:
        The figure and its axes, `(rows, columns)`.
    """
    from matplotlib.figure import Figure  # takes as long as the rest of a command's imports together

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG."""
    with replacing(path) as part:
        figure.savefig(part, dpi=110, format="png")


def plot(panels: Mapping[str, Mapping[str, Sequence[Interval]]], groups: Sequence[str], path: Path) -> None:
    """Draws success rates as grouped bars with their intervals and writes a PNG.

    Args:
        panels: For each panel (a world) and each bar color (a policy), one interval per group.
        groups: Names under the groups of bars (the tasks).
        path: File to write.
    """
    figure, grid = subplots(1, len(panels), (4.2 * len(panels), 3.4), sharey=True)
    axes = grid[0]
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        width = 0.8 / max(1, len(bars))
        for i, (name, intervals) in enumerate(bars.items()):
            at = np.arange(len(groups)) + (i - (len(bars) - 1) / 2) * width
            value, low, high = 100 * np.array(intervals, np.float64).T
            axis.bar(
                at,
                value,
                0.92 * width,
                label=name,
                color=COLORS[i % len(COLORS)],
                yerr=np.clip([value - low, high - value], 0, None),
                capsize=2,
                error_kw={"elinewidth": 0.8},
            )
        axis.set(title=title, ylim=(0, 104), xticks=range(len(groups)), xticklabels=groups)
    axes[0].set_ylabel("success at the end (%), 95 % interval")
    names = next(iter(panels.values()))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(names)))
    save_figure(figure, path)


def gif(clips: Sequence[Clip], path: Path, columns: int = 2, milliseconds: int = 160) -> None:
    """Writes the clips as one looping GIF, all playing at once, at most `GIF_BYTES` large.

    Args:
        clips: What to show, row by row.
        path: File to write.
        columns: Clips per row.
        milliseconds: Time per control step; the last picture stays longer.

    Raises:
        ValueError: If there is no clip.
    """
    if not clips:
        raise ValueError("no clip to draw; accepted: at least one")
    for tile in TILES:
        frames = [_frame(clips, t, tile, columns) for t in range(len(clips[0].physics))]
        both = np.concatenate([np.asarray(frames[0]), np.asarray(frames[-1])])
        # By an octree: a median cut has no colors left for the dark side of a cube that fills few pixels.
        palette = Image.fromarray(both).quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        duration = [milliseconds] * (len(frames) - 1) + [8 * milliseconds]
        with replacing(path) as part:
            indexed[0].save(part, format="GIF", save_all=True, append_images=indexed[1:], duration=duration, loop=0)
        if path.stat().st_size <= GIF_BYTES:
            return


def _frame(clips: Sequence[Clip], t: int, tile: int, columns: int) -> Image.Image:
    """Draws step t of every clip: physics, dream, and what was said below them."""
    size = max(9, tile // 12)
    font = ImageFont.load_default(size)
    small = ImageFont.load_default(size=max(8, tile // 14))
    line, gap = max(12, tile // 10), 6
    cell = (2 * tile + 3 * gap, tile + 4 * line)
    columns = min(columns, len(clips))
    canvas = Image.new("RGB", (columns * cell[0], -(-len(clips) // columns) * cell[1]), "white")
    draw = ImageDraw.Draw(canvas)
    for i, clip in enumerate(clips):
        x, y = (i % columns) * cell[0] + gap, (i // columns) * cell[1]
        for k, (title, pictures) in enumerate((("physics", clip.physics), ("dream", clip.dream))):
            left = x + k * (tile + gap)
            draw.text((left, y + 1), f"{title}  {t}", "#555555", small)
            picture = Image.fromarray(pictures[t]).resize((tile, tile), Image.Resampling.BICUBIC)
            canvas.paste(picture, (left, y + line))
        letters = int(2 * tile / (0.52 * size))
        words = textwrap.wrap(f"{clip.task}: “{clip.instruction}”", letters)
        done = t == len(clip.physics) - 1
        color = ("#2f855a" if clip.success else "#c53030") if done else "#222222"
        if done:
            words = [*words[:2], "solved in physics" if clip.success else "not solved in physics"]
        draw.multiline_text((x, y + line + tile + 2), "\n".join(words[:3]), color, font, spacing=1)
    return canvas

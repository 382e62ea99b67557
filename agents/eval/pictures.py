"""Pictures of an evaluation: bars with intervals, and both worlds under the same actions."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.eval.statistics import Interval

GIF_BYTES = 1_500_000
"""Largest size of a GIF; bigger ones are drawn smaller."""
TILES = (160, 128, 96, 64)
"""Sides of one picture in the GIF to try, in pixels."""
COLORS = ("#9aa5b1", "#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b7791f")


@dataclass(frozen=True)
class Clip:
    """One episode in both worlds, from the same start under the same actions.

    Attributes:
        task: Name of the task.
        instruction: What the policy was told.
        success: Whether physics judged the episode a success.
        physics: The policy camera's pictures, `(T + 1, 64, 64, 3)` uint8.
        dream: The decoder's pictures, `(T + 1, 64, 64, 3)` uint8.
    """

    task: str
    instruction: str
    success: bool
    physics: np.ndarray
    dream: np.ndarray


def plot(panels: Mapping[str, Mapping[str, Sequence[Interval]]], groups: Sequence[str], path: Path) -> None:
    """Draws success rates as grouped bars with their intervals and writes a PNG.

    Args:
        panels: For each panel (a world) and each bar color (a policy), one interval per group.
        groups: Names under the groups of bars (the tasks).
        path: File to write.
    """
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
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
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("success at the end (%), 95 % interval")
    names = next(iter(panels.values()))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(names)))
    write_file(path, lambda file: figure.savefig(file, dpi=110, format="png"))


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

        def save(file: Path, images: list[Image.Image] = indexed, times: list[int] = duration) -> None:
            images[0].save(file, format="GIF", save_all=True, append_images=images[1:], duration=times, loop=0)

        write_file(path, save)
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


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file beside `path` and moves it there: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    write(partial)
    os.replace(partial, path)

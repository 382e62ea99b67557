"""Figures of an evaluation: success rates with intervals, and GIFs of both worlds under the same actions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dream_env.agents.eval.results import Clip
from dream_env.agents.eval.statistics import Interval
from dream_env.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIF_BYTES = 1_500_000
"""Maximum size of a GIF, in bytes; larger ones are drawn again with smaller pictures."""
TILES = (224, 192, 160, 128)
"""Side lengths of one picture in the GIF to try, in pixels."""
BLUR = 0.4
"""Standard deviation of the blur of enlarged pictures, in pixels of the original."""
COLORS = ("#9aa5b1", "#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b7791f")


def subplots(rows: int, columns: int, size: tuple[float, float], **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Creates a figure with a grid of panels without top and right spines.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        size: Width and height, in inches.
        **kwargs: Further arguments of `Figure.subplots`.

    Returns:
        The figure and its axes, `(rows, columns)`.
    """
    from matplotlib.figure import Figure  # slow: takes as long as all other imports of a command together

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG."""
    with replacing(path) as part:
        figure.savefig(part, dpi=110, format="png")


def plot(
    panels: Mapping[str, Mapping[str, Sequence[Interval]]],
    groups: Sequence[str],
    path: Path,
    ylabel: str = "episodes that end in success (%)",
    title: str = "How often each policy succeeds, with 95 % intervals",
    percent: bool = True,
) -> None:
    """Draws success rates, or other means, as grouped bars with their intervals and writes a PNG.

    Args:
        panels: For each panel (a world) and each color of bars (a policy), one interval per group.
        groups: Names of the groups of bars (the tasks).
        path: File to write.
        ylabel: Label of the vertical axis.
        title: Title of the figure.
        percent: Whether the values are rates, which are drawn in percent.
    """
    figure, grid = subplots(1, len(panels), (4.6 * len(panels), 4.0), sharey=True)
    axes = grid[0]
    for axis, (world, bars) in zip(axes, panels.items(), strict=True):
        width = 0.8 / max(1, len(bars))
        for i, (name, intervals) in enumerate(bars.items()):
            at = np.arange(len(groups)) + (i - (len(bars) - 1) / 2) * width
            value, low, high = (100 if percent else 1) * np.array(intervals, np.float64).T
            drawn = axis.bar(
                at,
                value,
                0.92 * width,
                label=name,
                color=COLORS[i % len(COLORS)],
                yerr=np.clip([value - low, high - value], 0, None),
                capsize=2,
                error_kw={"elinewidth": 0.8, "ecolor": "#4a5568"},
            )
            if len(bars) <= 3:
                numbers = ["" if np.isnan(v) else f"{v:.0f}" if percent else f"{v:.3g}" for v in value]
                if percent:
                    axis.bar_label(drawn, numbers, label_type="center", color="white", fontweight="bold")
                else:  # bars of returns may be too small for a number inside
                    axis.bar_label(drawn, numbers, padding=2)
        axis.set(xticks=range(len(groups)), xticklabels=groups)
        if percent:
            axis.set_ylim(0, 104)
        axis.set_title(f"in {world}" if world == "physics" else f"in the {world}", loc="left", fontweight="bold")
        axis.tick_params(axis="x", length=0, labelsize=11)
    axes[0].set_ylabel(ylabel)
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    names = next(iter(panels.values()))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(names)))
    save_figure(figure, path)


def enlarge(picture: np.ndarray, side: int) -> Image.Image:
    """Enlarges a picture `(H, W, 3)` uint8 smoothly to a height of `side` pixels; never shrinks it.

    A blur of less than one pixel of the original removes the staircase at slanted edges, which interpolation keeps.
    """
    image = Image.fromarray(picture)
    if image.height >= side:
        return image
    times = side / image.height
    large = image.resize((round(image.width * times), side), Image.Resampling.BICUBIC)
    return large.filter(ImageFilter.GaussianBlur(BLUR * times))


def scaled(picture: np.ndarray, side: int, width: int | None = None) -> Image.Image:
    """Enlarges or shrinks a picture `(H, W, 3)` uint8 to a height of `side` pixels.

    With `width`, it becomes less high where it would otherwise be wider than `width` pixels.
    """
    high, wide = picture.shape[:2]
    if width is not None:
        side = min(side, max(1, round(width * high / wide)))
    image = enlarge(picture, side)
    return image if image.height == side else image.resize((max(1, round(wide * side / high)), side))


def write_gif(frames: Sequence[Image.Image], path: Path, milliseconds: int) -> None:
    """Writes frames as a looping GIF; the last frame is shown eight times as long.

    Args:
        frames: Frames of equal size.
        path: File to write.
        milliseconds: Duration of a frame.
    """
    both = np.concatenate([np.asarray(frames[i]) for i in (0, len(frames) // 2, -1)])
    # An octree, because a median cut leaves no colors for the dark side of a cube that covers few pixels.
    palette = Image.fromarray(both).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = [milliseconds] * (len(frames) - 1) + [8 * milliseconds]
    with replacing(path) as part:
        indexed[0].save(part, format="GIF", save_all=True, append_images=indexed[1:], duration=duration, loop=0)


def gif(clips: Sequence[Clip], path: Path, columns: int = 1, milliseconds: int = 160) -> None:
    """Writes the clips as one looping GIF, all playing at once.

    Tries smaller and smaller pictures until the file has at most `GIF_BYTES`.

    Args:
        clips: Clips to show, row by row.
        path: File to write.
        columns: Clips per row.
        milliseconds: Duration of a control step; the last one is shown longer.

    Raises:
        ValueError: If there is no clip.
    """
    if not clips:
        raise ValueError("no clip to draw; accepted: at least one")
    for tile in TILES:
        steps = max(len(clip.physics) for clip in clips)
        write_gif([_frame(clips, t, tile, columns) for t in range(steps)], path, milliseconds)
        if path.stat().st_size <= GIF_BYTES:
            return


def gifs(clips: Sequence[Clip], path: Path) -> None:
    """Writes a GIF with the first clip of every task and, if there are several tasks, a `NAME_TASK.gif` for each."""
    by_task = {clip.task: [one for one in clips if one.task == clip.task] for clip in clips}
    gif([own[0] for own in by_task.values()], path)
    for task, own in by_task.items() if len(by_task) > 1 else []:
        gif(own, path.with_name(f"{path.stem}_{task}.gif"))


def _frame(clips: Sequence[Clip], t: int, tile: int, columns: int) -> Image.Image:
    """Draws step t of every clip: physics and dream side by side, with the instruction above them."""
    columns, gap = min(columns, len(clips)), tile // 16
    width = 2 * tile + 3 * gap
    # A phone shows the whole width on about 360 points: letters of a 24th of the width are 15 points high there.
    size = max(11, columns * width // 26)
    font, small, line = ImageFont.load_default(size), ImageFont.load_default(0.8 * size), round(1.3 * size)
    texts = [f"“{clip.instruction}”" if clip.instruction else "" for clip in clips]
    wrapped = [textwrap.wrap(text, int(2 * tile / (0.5 * size)))[:2] for text in texts]
    above = round((0.3 + max(map(len, wrapped))) * line)
    height = above + line + tile + 2 * gap
    canvas = Image.new("RGB", (columns * width, -(-len(clips) // columns) * height), "white")
    draw = ImageDraw.Draw(canvas)
    for i, clip in enumerate(clips):
        x, y = (i % columns) * width + gap, (i // columns) * height
        draw.multiline_text((x, y + gap // 2), "\n".join(wrapped[i]), "#1a202c", font, spacing=2)
        top = y + above
        now = min(t, len(clip.physics) - 1)  # shorter clips keep their last picture
        for k, (title, pictures) in enumerate(((clip.real, clip.physics), ("dream", clip.dream))):
            left = x + k * (tile + gap)
            fits = draw.textlength(f"{title} not solved", small) <= tile  # ids of environments may be long
            draw.text((left, top), title if fits else "real", "#4a5568", small)
            canvas.paste(scaled(pictures[now], tile, tile), (left, top + line))
        shown, color = f"step {now}", "#718096"
        if now == len(clip.physics) - 1 and clip.success is not None:
            shown, color = ("solved", "#2f855a") if clip.success else ("not solved", "#c53030")
        draw.text((x + tile, top), shown, color, small, anchor="ra")
    return canvas

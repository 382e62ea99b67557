"""Saves an interactive rollout as a GIF and as an episode of training data."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.eval.pictures import scaled, write_gif
from dream_env.data.episode import Episode
from dream_env.data.writer import EpisodeWriter
from dream_env.files import locked
from dream_env.spec import WorldSpec

if TYPE_CHECKING:
    from dream_env.agents.view.session import Moment

SIDE = 256
"""Height of a picture in a GIF."""
DREAM, REAL = "dream", "real"
KIND = "driven"
"""Value of the episodes' `kind`."""


def stage(moment: Moment, spec: WorldSpec, world: str) -> np.ndarray | None:
    """Returns the picture of the dream or the real environment `(H, W, 3)` uint8; None without pictures.

    The cameras of a dream are side by side.
    """
    if world == REAL:
        return None if moment.real is None else moment.real.picture
    parts = [moment.shown[name] for name in spec.pictures]
    return np.concatenate(parts, 1) if parts else None


def save_gif(moments: Sequence[Moment], spec: WorldSpec, instruction: str, path: Path) -> Path:
    """Writes the dream, with the real environment next to it if there is one, as a GIF at the control rate.

    Args:
        moments: Moments to show.
        spec: Spec of the world.
        instruction: The instruction, or "".
        path: File to write.

    Raises:
        ValueError: If there are no pictures.
    """
    worlds = [world for world in (DREAM, REAL) if stage(moments[0], spec, world) is not None]
    if not worlds:
        raise ValueError(f"{spec.name} has no pictures; accepted: saving it as an episode")
    font, frames = ImageFont.load_default(22), []
    for moment in moments:
        tiles = [(world, stage(moment, spec, world)) for world in worlds]
        images = [(world, scaled(picture, SIDE)) for world, picture in tiles if picture is not None]
        width = sum(image.width for _, image in images) + 12 * (len(images) + 1)
        words = textwrap.wrap(f"“{instruction}”" if instruction else "", max(8, width // 11))
        top = 12 + 28 * len(words) + 28
        canvas = Image.new("RGB", (width, top + SIDE + 12), "white")
        draw = ImageDraw.Draw(canvas)
        draw.multiline_text((12, 8), "\n".join(words), "#1a202c", font, spacing=6)
        left = 12
        for world, image in images:
            draw.text((left, top - 28), world, "#718096", font)
            canvas.paste(image, (left, top))
            left += image.width + 12
        draw.text((width - 12, top - 28), f"step {moment.step}", "#718096", font, anchor="ra")
        frames.append(canvas)
    write_gif(frames, path, round(1000 / (spec.control_hz or 10)))
    return path


def save_episode(
    moments: Sequence[Moment],
    spec: WorldSpec,
    instruction: str,
    goal: dict[str, np.ndarray],
    task: str,
    folder: Path,
    world: str = DREAM,
) -> int:
    """Adds an interactive rollout to a LeRobot data set as one episode.

    Args:
        moments: Moments of one episode.
        spec: Spec of the world.
        instruction: The instruction, or "".
        goal: Goal observation, empty without goals.
        task: Name of the task, or "".
        folder: Folder of the data set.
        world: `DREAM` saves the decoded observations, `REAL` the observations of the real environment.

    Returns:
        Number of episodes in the data set.

    Raises:
        ValueError: If no step was taken yet, or the folder holds something else.
    """
    if len(moments) < 2:
        raise ValueError("nothing was done yet; accepted: one step or more")
    spec = replace(spec, horizon=None)  # a user may take more steps than the horizon
    with locked(folder), EpisodeWriter(folder, spec) as writer:
        seeds = writer.seeds()
        episode = episode_of(moments, world, spec.hold_steps)
        episode.instruction, episode.task = instruction, task or episode.task
        episode.goal = {name: goal[name] for name in spec.pictures} if spec.goals else None
        episode.seed = max(seeds, default=-1) + 1
        writer.add(episode)
    return len(seeds) + 1


def episode_of(moments: Sequence[Moment], world: str, hold_steps: int = 1) -> Episode:
    """Converts moments to an episode of the dream or of the real environment.

    Args:
        moments: Moments of one episode.
        world: `DREAM` or `REAL`; an episode of the latter ends where the real environment says, even if the dream goes
            on.
        hold_steps: Steps for which the success condition has to hold until the real environment reports success.

    Raises:
        ValueError: If there was no real environment, or it had ended before.
    """
    steps = moments[1:]
    actions = np.stack([step.action for step in steps])
    if world == DREAM:
        seen, rewards, ended = [m.shown for m in moments], [m.reward for m in steps], moments[-1].terminated
        holds = [m.holds for m in moments]
        success = None if holds[0] is None else np.array(holds, bool)
    else:
        real = [m.real for m in moments if m.real is not None]
        if len(real) < len(moments):
            raise ValueError("there is no real environment; accepted: the dream")
        real = real[: next((i for i, seen in enumerate(real) if seen.ended), len(real)) + 1]
        if not (actions := actions[: len(real) - 1]).size:
            raise ValueError("the real environment had ended before the kept steps; accepted: the dream")
        seen, rewards, ended = [r.observation for r in real], [r.reward for r in real[1:]], real[-1].ended
        success = None
        if any("is_success" in r.info for r in real):  # after `hold_steps` steps of the condition, which is stored
            succeeded = np.array([bool(r.info.get("is_success")) for r in real])
            success = np.array([succeeded[i : i + hold_steps].any() for i in range(len(succeeded))])
    return Episode(
        {name: np.stack([observation[name] for observation in seen]) for name in seen[0]},
        actions,
        np.array(rewards, np.float32),
        terminated=ended,
        success=success,
        kind=KIND,
    )

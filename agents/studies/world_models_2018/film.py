"""Films a controller in the dream of a game and in the game, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.policies import registry
from dream_env.agents.run.worlds import make_real
from dream_env.dream import DreamEnv
from dream_env.files import replacing
from dream_env.spec import observe

STEPS, EVERY, SIDE = 160, 2, 128
"""Largest number of steps, interval between shown steps, and side of a picture in pixels."""


def film(policy: str, model: Path, temperature: float, path: Path, seed: int) -> None:
    """Writes a GIF with the dream in which a controller evolved on the left and the game on the right."""
    controller = registry.load(policy)
    dream = DreamEnv(world_model=str(model), temperature=temperature, obs_type="pixels")
    real = make_real(None, str(model), obs_type="pixels")
    name = real.unwrapped.spec.id if real.unwrapped.spec else "game"
    played = [_played(controller, env, seed) for env in (dream, real)]
    titles = (f"dream, temperature {temperature:g}", name)
    count = max(len(frames) for frames in played)
    frames = [_frame([frames[min(t, len(frames) - 1)] for frames in played], titles) for t in range(0, count, EVERY)]
    palette = frames[0].quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as part:
        indexed[0].save(part, format="GIF", save_all=True, append_images=indexed[1:], duration=80, loop=0)


def _played(controller: object, env: object, seed: int) -> list[np.ndarray]:
    """Returns the pictures of an episode."""
    (obs, _), frames = env.reset(seed=seed), []  # type: ignore[attr-defined]
    for _ in range(STEPS):
        seen = observe(obs)
        frames.append(next(part for part in seen.values() if part.ndim == 3))
        action = controller.act({key: part[None] for key, part in seen.items()})[0]  # type: ignore[attr-defined]
        obs, _, terminated, truncated, _ = env.step(action)  # type: ignore[attr-defined]
        if terminated or truncated:
            break
    env.close()  # type: ignore[attr-defined]
    return frames


def _frame(pictures: list[np.ndarray], titles: tuple[str, ...]) -> Image.Image:
    canvas = Image.new("RGB", (2 * SIDE + 18, SIDE + 26), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = 6 + i * (SIDE + 6)
        draw.text((left, 4), title, "#444444", font)
        canvas.paste(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, 20))
    return canvas

"""Creates the table textures, gray images of 128 x 128 pixels: `python -m dream_env.assets.nicol.make_textures`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128


def smooth(noise: np.ndarray, rounds: int, axis: int) -> np.ndarray:
    """Blurs an image along one axis, with wrap-around at the edges, and rescales it to [0, 1]."""
    for _ in range(rounds):
        noise = (np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)) / 4
    return (noise - noise.min()) / (noise.max() - noise.min())


def patterns() -> dict[str, np.ndarray]:
    """Returns brightness factors `(128, 128)` by name of the texture."""
    rng, (rows, columns) = np.random.default_rng(0), np.indices((SIZE, SIZE))
    grain = smooth(smooth(rng.random((SIZE, SIZE)), 200, 1), 1, 0)
    return {
        "checks": 0.72 + 0.28 * ((rows // 4 + columns // 8) % 2),
        "stripes": 0.75 + 0.25 * (columns // 6 % 2),
        "wood": 0.7 + 0.3 * grain,
        "speckles": 1 - 0.4 * (rng.random((SIZE, SIZE)) < 0.08),
    }


def main() -> None:
    """Writes the textures into the folder `textures` next to this file."""
    folder = Path(__file__).parent / "textures"
    folder.mkdir(exist_ok=True)
    for name, pattern in patterns().items():
        gray = np.round(255 * pattern).astype(np.uint8)
        Image.fromarray(np.repeat(gray[..., None], 3, axis=2)).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()

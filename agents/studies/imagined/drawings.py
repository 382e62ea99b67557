"""Draws the figures: labelled rows of pictures, and curves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dream_env.agents.clone.encoded_frames import EncodedFrames, encode
from dream_env.agents.eval.imagined import labelled, moments, strip
from dream_env.agents.eval.pictures import COLORS, subplots
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import replacing
from dream_env.language import embedder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 6
"""Number of frames in a row."""
PALETTE = 128
"""Number of colors in a file, limited to keep it small."""


def video(policy: Any, model: Any, data: EpisodeDataset, episode: int) -> Image.Image:
    """Draws the futures that a policy imagines, see `dream_env.agents.eval.imagined.strip`."""
    rows, steps = strip(policy, model, data, episode, SHOWN)
    return labelled(rows, steps, str(data.instruction[episode]))


def latent(policy: Any, model: Any, data: EpisodeDataset, episode: int, others: np.ndarray) -> Image.Image:
    """Draws the recorded frames nearest to the embeddings that a policy predicts, and the error of its predictions.

    Frames are compared by their embeddings under the instruction of the drawn episode, so details that the embedding
    ignores may differ.

    Args:
        policy: Policy with `imagine` and `config.ahead`.
        model: World model of the policy.
        data: Recorded episodes.
        episode: Index of the episode to draw.
        others: Indices of the episodes in which the nearest frames are searched and over which errors are averaged.
    """
    ahead, some = policy.config.ahead, data.take(others)
    frames, every = encode(model, data.take(slice(episode, episode + 1))), encode(model, some)
    instructed = replace(some, instruction=np.full(len(some), data.instruction[episode]))
    known = encode(model, instructed).embedding.float() if every.bound else every.embedding.float()
    rows, later = moments(int(frames.last[0]), ahead, SHOWN)
    nearest = torch.cdist(foreseen(policy, frames, torch.from_numpy(rows)), known).argmin(1).numpy()
    name, begin = model.spec.pictures[0], int(data.offsets[episode])
    seen = np.asarray(data.observation[name][begin : begin + int(frames.last[0]) + 1])
    shown = {
        "seen": seen[rows],
        f"nearest to what is\nforeseen {ahead} steps on": np.asarray(some.observation[name])[nearest],
        f"seen {ahead} steps on": seen[later],
    }
    picture = labelled(shown, rows, str(data.instruction[episode]))
    return beside(picture, distances(policy, every))


def foreseen(policy: Any, frames: EncodedFrames, rows: Tensor) -> Tensor:
    """Returns the embeddings `(B, E)` that a policy predicts from frames with indices `(B,)`."""
    return torch.from_numpy(policy.imagine({name: part.numpy() for name, part in frames.observed(rows).items()}))


def distances(policy: Any, frames: EncodedFrames) -> Figure:
    """Plots the mean squared distance of the embedding k steps ahead from the prediction and from the current one."""
    ahead = policy.config.ahead
    rows = (frames.last[frames.episode] - torch.arange(len(frames.episode)) >= 2 * ahead).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"no episode lasts {2 * ahead} steps; accepted: longer ones, or a policy of less --ahead")
    steps, now, guess = range(2 * ahead + 1), frames.embedding[rows].float(), foreseen(policy, frames, rows)
    figure, axes = subplots(1, 1, (3.6, 3.3))
    axis: Axes = axes[0, 0]
    for start, name, color in ((now, "now", COLORS[0]), (guess, "what is foreseen", COLORS[1])):
        apart = [float((frames.later(rows, k) - start).square().sum(1).mean()) for k in steps]
        axis.plot(steps, apart, color=color, label=f"from {name}")
    axis.axvline(ahead, color="#cbd5e0", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="steps on", ylabel="squared distance of embeddings", xticks=steps[:: ahead // 2 or 1], ylim=(0, None)
    )
    axis.legend(frameon=False)
    return figure


@torch.inference_mode()
def dreams(worlds: Mapping[str, Any], data: EpisodeDataset, episode: int) -> Image.Image:
    """Draws an episode, and rollouts of world models from its first frame with its actions.

    Args:
        worlds: World models of the same world, by name.
        data: Recorded episodes.
        episode: Index of the episode to draw.
    """
    begin, end = (int(data.offsets[episode + i]) for i in (0, 1))
    steps = np.linspace(0, end - 1 - begin, SHOWN).round().astype(int)
    first = {name: torch.from_numpy(np.array(part[begin : begin + 1])) for name, part in data.observation.items()}
    actions = torch.from_numpy(data.action[begin : end - 1])
    shown: dict[str, np.ndarray] = {}
    for label, model in worlds.items():
        name = model.spec.pictures[0]
        shown = shown or {"what happened": np.asarray(data.observation[name][begin:end])[steps]}
        words = embedder(model)(str(data.instruction[episode]))[None].copy()
        instruction = {"instruction": torch.from_numpy(words)} if model.spec.instructions else {}
        state = model.encode(first | instruction)
        drawn = [model.decode(state)[name]]
        for action in actions.split(1):
            state, _ = model.step(state, action)
            drawn.append(model.decode(state)[name])
        shown[label] = torch.cat(drawn)[steps].numpy()
    return labelled(shown, steps, str(data.instruction[episode]))


def fused(found: Mapping[str, Any]) -> Figure:
    """Plots the figures of `agents.studies.fused`: weights, time and error of the pair, one network, and two small."""
    names = {"pair": "the two it\nreplaces", "fused": "fused", "separate": "two of\nits size"}
    figure, axes = subplots(1, 3, (8.4, 2.9))
    weights, time, error = axes[0]
    bottom = np.zeros(len(names))
    parts = {"shared trunk": ("trunk",), "dream": ("dream", "dynamics"), "actions": ("actions", "policy")}
    for (part, keys), color in zip(parts.items(), COLORS[1:], strict=False):
        size = np.array([sum(found["parameters"][who].get(key, 0) for key in keys) for who in names]) / 1000
        weights.bar([*names.values()], size, 0.65, bottom, label=part, color=color)
        bottom += size
    weights.set(title="weights (thousands)", ylim=(0, 1.45 * bottom.max()))
    weights.legend(frameon=False, fontsize=8, loc="upper right")
    measured = {"pair": "pair", "fused": "fused", "separate": "fused_separate"}
    for i, (count, row) in enumerate(found["ms"].items()):
        bars = time.bar(np.arange(3) + 0.38 * (i - 0.5), [row[key] for key in measured.values()], 0.36, color=COLORS[i])
        time.bar_label(bars, fmt="%.1f", fontsize=8)
        bars.set_label(f"{count} dream{'s' * (count != '1')}")
    looks = ["the two it\nreplaces", "fused,\none look", "fused,\ntwo looks"]
    most = max(max(row.values()) for row in found["ms"].values())
    time.set(title="ms for an action and a step", xticks=range(3), xticklabels=looks, ylim=(0, 1.3 * most))
    time.legend(frameon=False, fontsize=8)
    steps = [*found["cm"]["pair"]]
    for who, color in zip(names, (COLORS[0], COLORS[1], COLORS[2]), strict=True):
        if who in found["cm"]:
            own = [found["cm"][who][k]["moved"] for k in steps]
            error.plot([0, *map(int, steps)], [0, *own], "o-", color=color, label=names[who].replace("\n", " "))
    error.set(title="error of a moved cube (cm)", xlabel="steps dreamt", xticks=[0, *map(int, steps)])
    error.legend(frameon=False, fontsize=8)
    return figure


def beside(picture: Image.Image, figure: Figure) -> Image.Image:
    """Places a figure to the right of a picture, at the same height."""
    right = _rendered(figure, picture.height / figure.get_figheight())
    canvas = Image.new("RGB", (picture.width + right.width, picture.height), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(right, (picture.width, 0))
    return canvas


def _rendered(figure: Figure, dpi: float) -> Image.Image:
    with io.BytesIO() as file:
        figure.savefig(file, dpi=dpi, format="png")
        return Image.open(file).convert("RGB")


def save(picture: Image.Image | Figure, path: Path) -> None:
    """Writes a drawing as a small PNG."""
    image = picture if isinstance(picture, Image.Image) else _rendered(picture, 110)
    with replacing(path) as part:
        image.quantize(PALETTE).save(part, format="PNG", optimize=True)

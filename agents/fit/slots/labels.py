"""Trains the position prediction of a slot model from a few labelled episodes.

Labels of all other episodes are ignored, so they may be unknown (NaN), or missing in some of the folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.matching import LOOKS, match
from dream_env.agents.fit.trainer import Stage
from dream_env.data.episodes import EpisodeDataset
from dream_env.world_models.slots.model import SlotModel

SPACE = 3
"""Largest dimension of a position; further numbers of a label, such as an orientation, are ignored."""
STRAYED = 0.015, 0.03
"""Standard deviation of the noise added to slots and to robot states in training; augments the few labels."""


def load(folders: tuple[Path, ...], label: str | None) -> EpisodeDataset:
    """Loads and concatenates folders of episodes; a label that only some folders have is NaN in the others."""
    parts = [EpisodeDataset.load(folder) for folder in folders]
    data = EpisodeDataset.concatenate(parts)
    has = [label in part.labels for part in parts]
    if label is not None and any(has) and not all(has):
        size = parts[has.index(True)].labels[label].shape[1:]
        unknown = (np.full((int(part.offsets[-1]), *size), np.nan, np.float32) for part in parts)
        given = [part.labels.get(label, other) for part, other in zip(parts, unknown, strict=True)]
        data.labels[label] = np.concatenate(given)
    return data


@dataclass(frozen=True)
class Labels:
    """Positions of objects in the labelled episodes.

    Attributes:
        place: Positions in meters, `(F, M, D)`; only read in the labelled episodes.
        rows: Indices of the labelled episodes, `(N,)`.
    """

    place: np.ndarray
    rows: np.ndarray


def column(args: Arguments, episodes: EpisodeDataset) -> np.ndarray:
    """Returns the positions of objects in all frames, `(F, M, D)`, as a view of the label column.

    Raises:
        ValueError: If there is no such column, or its length is not a multiple of `label_size`.
    """
    if args.label not in episodes.labels:
        known = ", ".join(map(repr, episodes.labels)) or "data with a column privileged.NAME; these have none"
        raise ValueError(f"label={args.label!r} is not in the data; accepted: {known}")
    values = episodes.labels[args.label].reshape(int(episodes.offsets[-1]), -1)
    if args.label_size < 1 or values.shape[1] % args.label_size:
        raise ValueError(
            f"label_size={args.label_size}; accepted: a divisor of the {values.shape[1]} numbers of {args.label!r}"
        )
    return values.reshape(len(values), -1, args.label_size)[..., :SPACE]


def choose(args: Arguments, episodes: EpisodeDataset, order: np.ndarray) -> Labels:
    """Selects the first `args.labelled` episodes, in a given order, whose labels are known in every frame.

    Args:
        args: Options of the fit: number of episodes, name and size of the labels.
        episodes: All episodes.
        order: Indices of the episodes that may be selected, shuffled.

    Raises:
        ValueError: If there are fewer labelled episodes, or for the reasons given in `column`.
    """
    place, found = column(args, episodes), list[int]()
    for i in order:
        if len(found) < args.labelled and np.isfinite(place[slice(*episodes.offsets[i : i + 2])]).all():
            found.append(int(i))
    if len(found) < args.labelled:
        raise ValueError(
            f"labelled={args.labelled}; accepted: at most {len(found)}, the training episodes in which {args.label!r} "
            "is known"
        )
    return Labels(place, np.sort(found))


@dataclass(frozen=True)
class Pairs:
    """S training examples: slots whose position is known.

    Attributes:
        given: Slots and standardized robot states, `(S, n + P)`.
        place: Positions in meters, `(S, D)`.
        paired: Share of the labelled objects, counted per episode, that were matched to a slot.
    """

    given: Tensor
    place: Tensor
    paired: float


def pair(model: SlotModel, data: Recorded, labels: Labels, seed: int) -> Pairs:
    """Matches labelled objects to slots, and returns all frames in which the slots are visible.

    Args:
        model: The model.
        data: All episodes, from `encoded`.
        labels: Positions in the labelled episodes.
        seed: Seed of the search.

    Raises:
        ValueError: If no object could be matched.
    """
    slots, seen = data.observation["slots"], data.observation["visible"].any(-1)
    spans = [(int(data.first[i]), int(data.last[i])) for i in labels.rows]
    looks = np.stack([np.linspace(*span, LOOKS).round().astype(int) for span in spans])
    place = labels.place[looks]
    pairs = match(slots[looks].double().numpy(), seen[looks].numpy(), place.astype(float), seed)
    things = int(np.any(place != 0, axis=(1, 3)).sum())
    own, given, places = model.own_of(data.observation).float(), [], []
    for (first, last), slot_is in zip(spans, pairs, strict=True):
        for slot in np.flatnonzero(slot_is >= 0):
            frames = torch.arange(first, last + 1)[seen[first : last + 1, slot]]
            given.append(torch.cat([slots[frames, slot], own[frames]], -1))
            places.append(torch.from_numpy(labels.place[frames.numpy(), slot_is[slot]]).float())
    if not given:
        raise ValueError("label: no slot is seen in the labelled episodes; accepted: more of them")
    return Pairs(torch.cat(given), torch.cat(places), round(len(given) / max(1, things), 4))


def position_stage(model: SlotModel, pairs: Pairs, updates: int, batch: int = 256) -> Stage:
    """Trains the position prediction.

    Objects are mostly at their usual position. Lifted or distant objects are rare and would be treated as outliers, so
    examples are sampled more often the farther they are from the mean position.

    Args:
        model: The model.
        pairs: Slots with known positions.
        updates: Number of updates.
        batch: Number of slots per batch.
    """
    position = model.position
    assert position is not None
    strayed = torch.full(pairs.given.shape[1:], STRAYED[0])
    strayed[len(strayed) - model.own :] = STRAYED[1]
    middle, spread = pairs.place.mean(0), pairs.place.std(0, unbiased=False)
    spread = spread.where(spread > 1e-4, 1.0)
    truth = (pairs.place - middle) / spread
    weight = 1 + truth.square().sum(-1)

    def begin() -> None:
        position.middle.copy_(middle)
        position.spread.copy_(spread)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        rows = torch.multinomial(weight, batch, replacement=True, generator=generator)
        given = pairs.given[rows]
        predicted = position.every(given + strayed * torch.randn(given.shape, generator=generator) * (given != 0))
        return F.smooth_l1_loss(predicted, truth[rows].expand_as(predicted), beta=0.1)

    average = max(0.0, min(0.99, 1 - 20 / max(1, updates)))
    return Stage("position", position, loss, updates, 2e-3, average=average, begin=begin)


@torch.no_grad()
def figures(model: SlotModel, pairs: Pairs) -> dict[str, float]:
    """Evaluates the position prediction on the labelled training episodes themselves.

    Returns:
        `paired`: see `Pairs`; `off`: median error in meters.
    """
    assert model.position is not None
    predicted = model.position.meters(model.position.every(pairs.given).mean(0))
    return {"paired": pairs.paired, "off": float(f"{(predicted - pairs.place).norm(dim=-1).median().item():.3g}")}

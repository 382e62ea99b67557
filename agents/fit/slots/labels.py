"""A few labelled episodes: where things are in them teaches a model of slots to tell positions, and nothing else does.

All that the other episodes have of labels is left alone, so it may be unknown (NaN), or missing in some of the folders.
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
"""Numbers of a position at most: what comes after them in a label, such as an orientation, is left out."""
STRAYED = 0.015, 0.03
"""How far slots and states of the robot are strayed while positions are learned, so that few labels say more."""


def load(folders: tuple[Path, ...], label: str | None) -> EpisodeDataset:
    """Loads folders of episodes as one; a label that only some of them have is NaN in the others."""
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
    """Positions of things in some episodes.

    Attributes:
        place: Meters, `(F, M, D)`; read in the labelled episodes alone.
        rows: The labelled episodes, `(N,)`.
    """

    place: np.ndarray
    rows: np.ndarray


def column(args: Arguments, episodes: EpisodeDataset) -> np.ndarray:
    """Returns the positions of things in all frames, `(F, M, D)`, as views of the column.

    Raises:
        ValueError: If there is no such column, or its length is no multiple of `label_size`.
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
    """Takes the first episodes in an order whose labels are known.

    Args:
        args: How many, and where their labels are.
        episodes: All episodes.
        order: Those that may be taken, at random.

    Raises:
        ValueError: If there are fewer, or see `column`.
    """
    place, found = column(args, episodes), list[int]()
    for i in order:
        if len(found) < args.labelled and np.isfinite(place[slice(*episodes.offsets[i : i + 2])]).all():
            found.append(int(i))
    if len(found) < args.labelled:
        raise ValueError(
            f"labelled={args.labelled}; accepted: at most {len(found)}, the episodes of the fit that {args.label!r} is "
            "known in"
        )
    return Labels(place, np.sort(found))


@dataclass(frozen=True)
class Pairs:
    """Slots whose positions are known, S of them.

    Attributes:
        given: Slot and the robot's standardized state, `(S, n + P)`.
        place: Meters, `(S, D)`.
        paired: Share of the labelled things, a thing of an episode each, that a slot was found for.
    """

    given: Tensor
    place: Tensor
    paired: float


def pair(model: SlotModel, data: Recorded, labels: Labels, seed: int) -> Pairs:
    """Finds which slot each labelled thing is, and returns all frames in which it is seen.

    Args:
        model: The model.
        data: What `encoded` gave of all episodes.
        labels: Positions in some of them.
        seed: Of the search.

    Raises:
        ValueError: If no thing could be paired.
    """
    slots, seen = data.observation["slots"], data.observation["visible"].any(-1)
    spans = [(int(data.first[i]), int(data.last[i])) for i in labels.rows]
    looks = np.stack([np.linspace(*span, LOOKS).round().astype(int) for span in spans])
    place = labels.place[looks]
    pairs = match(slots[looks].double().numpy(), seen[looks].numpy(), place.astype(float), seed)
    things = int(np.any(place != 0, axis=(1, 3)).sum())
    own, given, told = model.own_of(data.observation).float(), [], []
    for (first, last), slot_is in zip(spans, pairs, strict=True):
        for slot in np.flatnonzero(slot_is >= 0):
            frames = torch.arange(first, last + 1)[seen[first : last + 1, slot]]
            given.append(torch.cat([slots[frames, slot], own[frames]], -1))
            told.append(torch.from_numpy(labels.place[frames.numpy(), slot_is[slot]]).float())
    if not given:
        raise ValueError("label: no slot is seen in the labelled episodes; accepted: more of them")
    return Pairs(torch.cat(given), torch.cat(told), round(len(given) / max(1, things), 4))


def position_stage(model: SlotModel, pairs: Pairs, updates: int, batch: int = 256) -> Stage:
    """Trains what tells positions.

    Most of the time things lie where they always lie. What is lifted or far away is seldom seen, so it is shown more
    often, the farther it is from the usual place; or it would be taken for an outlier.

    Args:
        model: The model.
        pairs: Slots whose positions are known.
        updates: Number of updates.
        batch: Slots of a batch.
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
        told = position.every(given + strayed * torch.randn(given.shape, generator=generator) * (given != 0))
        return F.smooth_l1_loss(told, truth[rows].expand_as(told), beta=0.1)

    average = max(0.0, min(0.99, 1 - 20 / max(1, updates)))
    return Stage("position", position, loss, updates, 2e-3, average=average, begin=begin)


@torch.no_grad()
def figures(model: SlotModel, pairs: Pairs) -> dict[str, float]:
    """Returns how far told positions of the labelled episodes themselves are off, a median in meters."""
    assert model.position is not None
    told = model.position.meters(model.position.every(pairs.given).mean(0))
    return {"paired": pairs.paired, "off": float(f"{(told - pairs.place).norm(dim=-1).median().item():.3g}")}

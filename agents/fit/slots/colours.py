"""Which colours belong to things: those that move, and that the robot's own state does not explain.

Pixels that differ from the background are clustered by colour. The robot is where its own state says (set-points,
joint angles), so what shows in its colours can be foretold from that, if not where the ground is another one in every
episode, then of what changes within them; a thing stands somewhere else in every episode. What never changes within an
episode is no thing either. The number of slots is what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dream_env.world_models.slots.reader import colour_features

DIFFERENT = 24
"""Difference to the background, of 255, from which on a pixel shows something else."""
CLUSTERS = 24
"""Colours before like ones are joined."""
ALIKE = 0.3
"""Distance of colours that are one thing's, in shades."""
EXPLAINED = 0.2
"""Share of the variance of a colour's places that its own state explains, from which on it is the robot's."""
RARE = 0.01
"""Least share of a thing's colour of the pixels that are no robot's and differ from the background."""
SAMPLE = 20_000
"""Pixels that are clustered."""
GRID = 4
"""Places are told apart by a grid of so many cells a side."""


@dataclass(frozen=True)
class Colours:
    """What pixels are told apart by.

    Attributes:
        colour: Features of colours, `(n, 4)`.
        owner: The slot of each, `(n,)` int64; K for those that are no thing's.
        shown: How each slot looks, `(K, 3)` of 0 to 1.
        explained: Share that the robot's state explains of each slot and of what was left out, for the report.
    """

    colour: Tensor
    owner: Tensor
    shown: Tensor
    explained: list[float]

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return len(self.shown)


def find_colours(pictures: Tensor, own: Tensor, episode: Tensor, most: int = 12, seed: int = 0) -> Colours:
    """Finds the colours of things.

    Args:
        pictures: Pictures `(N, H, W, 3)` uint8 of all cameras.
        own: What the robot knows of itself at that time, `(N, P)`; P may be 0.
        episode: The episode that each is of, `(N,)`; several of each.
        most: Largest number of slots; the rarest colours are left out.
        seed: Of the choice of pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    background = pictures.median(0).values
    differs = changed(pictures, background)  # (N, H, W)
    pixels = pictures[differs]
    if len(pixels) < CLUSTERS:  # nothing ever happens: one slot that nobody sees
        return Colours(colour_features(background.flatten(0, 1)[:1]), torch.ones(1).long(), torch.ones(1, 3), [])
    centre = joined(k_means(colour_features(balanced(pixels, generator)), CLUSTERS, generator))
    some = pixels[torch.randint(len(pixels), (SAMPLE,), generator=generator)]
    nearest = torch.cdist(colour_features(some), centre).argmin(1)
    share = torch.bincount(nearest, minlength=len(centre)) / len(some)
    where = places(pictures, differs, centre)  # (N, n, GRID * GRID)
    moving = places(pictures, changed(pictures, backgrounds(pictures, episode)), centre)
    order = torch.randperm(int(episode.max()) + 1, generator=generator)[episode].argsort(stable=True)
    told = torch.tensor(
        [max(explained(one[order, k], own[order], seed) for one in (where, moving)) for k in range(len(centre))]
    )
    moves = torch.tensor([changes(where[:, k], episode) for k in range(len(centre))])
    foreign = told < EXPLAINED
    share = share / share[foreign].sum().clamp(min=1e-9)
    things = foreign & (share > RARE) & (moves > 0.02)
    if not things.any():
        things = (share > RARE) & (share == share.max())
    kept = sorted(things.nonzero()[:, 0].tolist(), key=lambda k: -share[k].item())[:most]
    still = k_means(colour_features(background.flatten(0, 1).float()), 4, generator)
    owner = torch.full((len(centre) + len(still),), len(kept))
    for slot, k in enumerate(kept):
        owner[k] = slot
    looks = torch.stack([some[nearest == k].float().mean(0) for k in kept]) / 255
    others = [k for k in range(len(centre)) if k not in kept]
    report = [round(told[k].item(), 3) for k in (*kept, *others)]
    return Colours(torch.cat([centre, still]), owner, looks, report)


def changed(pictures: Tensor, background: Tensor) -> Tensor:
    """Returns which pixels `(N, H, W)` of pictures `(N, H, W, 3)` show something else than a background like them."""
    return (pictures.int() - background.int()).abs().amax(-1) > DIFFERENT


def backgrounds(pictures: Tensor, episode: Tensor) -> Tensor:
    """Returns what each picture's episode `(N,)` shows most of its time, `(N, H, W, 3)` uint8."""
    return torch.stack([pictures[episode == one].median(0).values for one in range(int(episode.max()) + 1)])[episode]


def balanced(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Draws pixels `(n, 3)` uint8 of which rare colours have more than their share, or small things would be missed."""
    level = (pixels >> 3).long()
    colour = (level[:, 0] * 32 + level[:, 1]) * 32 + level[:, 2]
    some = torch.randint(len(pixels), (50 * SAMPLE,), generator=generator)  # of millions
    weight = torch.bincount(colour, minlength=32**3)[colour[some]].float() ** -0.5
    return pixels[some[torch.multinomial(weight, SAMPLE, replacement=True, generator=generator)]]


def k_means(points: Tensor, count: int, generator: torch.Generator, rounds: int = 12) -> Tensor:
    """Returns centres of clusters, at most `count`, begun as k-means++ does (Arthur & Vassilvitskii 2007)."""
    centre = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(count - 1):
        far = torch.cdist(points, centre).amin(1) ** 2
        if far.max() < 1e-6:
            break
        centre = torch.cat([centre, points[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(rounds):
        nearest = torch.cdist(points, centre).argmin(1)
        total = torch.zeros_like(centre).index_add_(0, nearest, points)
        count_of = torch.bincount(nearest, minlength=len(centre))[:, None]
        centre = torch.where(count_of > 0, total / count_of.clamp(min=1), centre)
    return centre


def joined(centre: Tensor) -> Tensor:
    """Joins centres that are nearer to each other than `ALIKE`, the nearest first."""
    groups = [[k] for k in range(len(centre))]
    while len(groups) > 1:
        mean = torch.stack([centre[group].mean(0) for group in groups])
        apart = torch.cdist(mean, mean) + 1e3 * torch.eye(len(groups))
        if apart.min() >= ALIKE:
            break
        a, b = sorted(divmod(int(apart.argmin()), len(groups)))
        groups[a] += groups.pop(b)
    return torch.stack([centre[group].mean(0) for group in groups])


def places(pictures: Tensor, differs: Tensor, centre: Tensor) -> Tensor:
    """Returns how much of each cell of a grid shows each colour before the background, `(N, n, GRID * GRID)`."""
    found = []
    for some, changed in zip(pictures.split(100), differs.split(100), strict=True):
        nearest = torch.cdist(colour_features(some).flatten(0, 2), centre).argmin(1).view(some.shape[:3])
        mask = torch.nn.functional.one_hot(nearest, len(centre)) * changed[..., None]
        cells = torch.nn.functional.adaptive_avg_pool2d(mask.permute(0, 3, 1, 2).float(), GRID)
        found.append(cells.flatten(2))
    return torch.cat(found)


def explained(where: Tensor, own: Tensor, seed: int = 0) -> float:
    """Returns the share of a colour's variance over the grid that the robot's state explains, on held-out pictures.

    By ridge regression on random Fourier features of the state (Rahimi & Recht 2007).
    """
    if not own.shape[1]:
        return 0.0
    generator = torch.Generator().manual_seed(seed)
    scaled = (own - own.mean(0)) / own.std(0).clamp(min=1e-6)
    wave = torch.randn(own.shape[1], 300, generator=generator) * 0.7
    phase = 6.2832 * torch.rand(300, generator=generator)
    features = torch.cat([torch.cos(scaled @ wave + phase), torch.ones(len(own), 1)], 1)
    train = torch.arange(len(own)) < 0.8 * len(own)  # episodes come one after another
    mean = where[train].mean(0)
    gram = features[train].T @ features[train] + 1.0 * torch.eye(features.shape[1])
    weight = torch.linalg.solve(gram, features[train].T @ (where[train] - mean))
    rest = where[~train] - mean - features[~train] @ weight
    return 1 - (rest.square().sum() / (where[~train] - mean).square().sum().clamp(min=1e-9)).item()


def changes(where: Tensor, episode: Tensor) -> float:
    """Returns the share of a colour's variance over the grid that lies within episodes."""
    count = torch.bincount(episode).clamp(min=1)[:, None]
    mean = torch.zeros(len(count), where.shape[1]).index_add_(0, episode, where) / count
    within = (where - mean[episode]).square().sum()
    return (within / (where - where.mean(0)).square().sum().clamp(min=1e-9)).item()

"""Finds the colors of objects: colors that move, and whose motion the robot state does not explain.

Pixels that differ from the background are clustered by color. Where the robot's colors appear can be predicted from
the robot state (set-points, joint angles), either over all images, or, if the background differs between episodes, for
the changes within episodes. Where objects appear cannot, because they are elsewhere in every episode. Colors that
never change within an episode are not objects either. Each remaining color becomes a slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dream_env.world_models.slots.reader import color_features

DIFFERENT = 24
"""Difference to the background, out of 255, above which a pixel counts as foreground."""
CLUSTERS = 24
"""Number of color clusters before similar ones are merged."""
ALIKE = 0.3
"""Clusters closer than this, in the space of `color_features`, are merged as shades of one object."""
EXPLAINED = 0.2
"""A color belongs to the robot if the robot state explains at least this share of its positional variance."""
FOLLOWED = 0.5
"""The same where no color is below `EXPLAINED`: if the hand always goes to the only object, it partly explains it."""
MOVES = 0.02
"""Smallest share of an object's positional variance that lies within episodes."""
RARE = 0.01
"""Smallest share of an object's color in the foreground pixels that do not belong to the robot."""
SAMPLE = 20_000
"""Number of pixels that are clustered."""
GRID = 4
"""Cells per side of the grid on which the positions of colors are compared."""


@dataclass(frozen=True)
class Colors:
    """Colors by which pixels are assigned to slots.

    Attributes:
        color: Features of the colors, `(n, 4)`.
        owner: Slot of each color, `(n,)` int64; K for colors that belong to no slot.
        shown: Mean color of each slot, `(K, 3)` in [0, 1].
        explained: Share of positional variance that the robot state explains, for each slot and then for each rejected
            color; for the report.
    """

    color: Tensor
    owner: Tensor
    shown: Tensor
    explained: list[float]

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return len(self.shown)


def find_colors(pictures: Tensor, own: Tensor, episode: Tensor, most: int = 12, seed: int = 0) -> Colors:
    """Finds the colors of objects.

    Args:
        pictures: Images `(N, H, W, 3)` uint8, with all cameras side by side.
        own: Robot state for each image, `(N, P)`; P may be 0.
        episode: Episode index of each image, `(N,)`; several images per episode.
        most: Largest number of slots; the rarest colors are left out.
        seed: Seed of the pixel sampling.
    """
    generator = torch.Generator().manual_seed(seed)
    background = pictures.median(0).values
    differs = changed(pictures, background)  # (N, H, W)
    pixels = pictures[differs]
    if len(pixels) < CLUSTERS:  # hardly any foreground: a single slot that owns no color
        return Colors(color_features(background.flatten(0, 1)[:1]), torch.ones(1).long(), torch.ones(1, 3), [])
    center = joined(k_means(color_features(balanced(pixels, generator)), CLUSTERS, generator))
    sample = pixels[torch.randint(len(pixels), (SAMPLE,), generator=generator)]
    nearest = torch.cdist(color_features(sample), center).argmin(1)
    share = torch.bincount(nearest, minlength=len(center)) / len(sample)
    where = places(pictures, differs, center)  # (N, n, GRID * GRID)
    moving = places(pictures, changed(pictures, backgrounds(pictures, episode)), center)
    order = torch.randperm(int(episode.max()) + 1, generator=generator)[episode].argsort(stable=True)
    by_robot = torch.tensor(
        [max(explained(grid[order, k], own[order], seed) for grid in (where, moving)) for k in range(len(center))]
    )
    moves = torch.tensor([changes(where[:, k], episode) for k in range(len(center))])
    foreign = by_robot < EXPLAINED
    if not (foreign & (moves > MOVES)).any():
        foreign = by_robot < FOLLOWED
    share = share / share[foreign].sum().clamp(min=1e-9)
    things = foreign & (share > RARE) & (moves > MOVES)
    if not things.any():
        things = (share > RARE) & (share == share.max())
    kept = sorted(things.nonzero()[:, 0].tolist(), key=lambda k: -share[k].item())[:most]
    still = k_means(color_features(background.flatten(0, 1).float()), 4, generator)
    owner = torch.full((len(center) + len(still),), len(kept))
    for slot, k in enumerate(kept):
        owner[k] = slot
    shown = torch.stack([sample[nearest == k].float().mean(0) for k in kept]) / 255
    others = [k for k in range(len(center)) if k not in kept]
    report = [round(by_robot[k].item(), 3) for k in (*kept, *others)]
    return Colors(torch.cat([center, still]), owner, shown, report)


def changed(pictures: Tensor, background: Tensor) -> Tensor:
    """Returns the foreground mask `(N, H, W)` of images `(N, H, W, 3)`, given one background or one for each."""
    return (pictures.int() - background.int()).abs().amax(-1) > DIFFERENT


def backgrounds(pictures: Tensor, episode: Tensor) -> Tensor:
    """Returns the median image of each image's episode `(N,)`, `(N, H, W, 3)` uint8."""
    return torch.stack([pictures[episode == i].median(0).values for i in range(int(episode.max()) + 1)])[episode]


def balanced(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Samples pixels `(SAMPLE, 3)` uint8 with rare colors overrepresented, so that small objects are not missed."""
    level = (pixels >> 3).long()
    color = (level[:, 0] * 32 + level[:, 1]) * 32 + level[:, 2]
    rows = torch.randint(len(pixels), (50 * SAMPLE,), generator=generator)  # there may be millions of pixels
    weight = torch.bincount(color, minlength=32**3)[color[rows]].float() ** -0.5
    return pixels[rows[torch.multinomial(weight, SAMPLE, replacement=True, generator=generator)]]


def k_means(points: Tensor, count: int, generator: torch.Generator, rounds: int = 12) -> Tensor:
    """Returns at most `count` cluster centres, by k-means with k-means++ seeding (Arthur & Vassilvitskii 2007)."""
    center = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(count - 1):
        far = torch.cdist(points, center).amin(1) ** 2
        if far.max() < 1e-6:
            break
        center = torch.cat([center, points[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(rounds):
        nearest = torch.cdist(points, center).argmin(1)
        total = torch.zeros_like(center).index_add_(0, nearest, points)
        count_of = torch.bincount(nearest, minlength=len(center))[:, None]
        center = torch.where(count_of > 0, total / count_of.clamp(min=1), center)
    return center


def joined(center: Tensor) -> Tensor:
    """Merges centres that are closer to each other than `ALIKE`, the closest pair first."""
    groups = [[k] for k in range(len(center))]
    while len(groups) > 1:
        mean = torch.stack([center[group].mean(0) for group in groups])
        apart = torch.cdist(mean, mean) + 1e3 * torch.eye(len(groups))
        if apart.min() >= ALIKE:
            break
        a, b = sorted(divmod(int(apart.argmin()), len(groups)))
        groups[a] += groups.pop(b)
    return torch.stack([center[group].mean(0) for group in groups])


def places(pictures: Tensor, differs: Tensor, center: Tensor) -> Tensor:
    """Returns the share of each grid cell that is foreground of each color, `(N, n, GRID * GRID)`."""
    found = []
    for batch, foreground in zip(pictures.split(100), differs.split(100), strict=True):
        nearest = torch.cdist(color_features(batch).flatten(0, 2), center).argmin(1).view(batch.shape[:3])
        mask = torch.nn.functional.one_hot(nearest, len(center)) * foreground[..., None]
        cells = torch.nn.functional.adaptive_avg_pool2d(mask.permute(0, 3, 1, 2).float(), GRID)
        found.append(cells.flatten(2))
    return torch.cat(found)


def explained(where: Tensor, own: Tensor, seed: int = 0) -> float:
    """Returns the share of a color's variance over the grid that the robot state explains, on held-out images.

    Uses ridge regression on random Fourier features of the state (Rahimi & Recht 2007).
    """
    if not own.shape[1]:
        return 0.0
    generator = torch.Generator().manual_seed(seed)
    scaled = (own - own.mean(0)) / own.std(0).clamp(min=1e-6)
    wave = torch.randn(own.shape[1], 300, generator=generator) * 0.7
    phase = 6.2832 * torch.rand(300, generator=generator)
    features = torch.cat([torch.cos(scaled @ wave + phase), torch.ones(len(own), 1)], 1)
    train = torch.arange(len(own)) < 0.8 * len(own)  # rows are grouped by episode, so this splits by episode
    mean = where[train].mean(0)
    gram = features[train].T @ features[train] + 1.0 * torch.eye(features.shape[1])
    weight = torch.linalg.solve(gram, features[train].T @ (where[train] - mean))
    rest = where[~train] - mean - features[~train] @ weight
    return 1 - (rest.square().sum() / (where[~train] - mean).square().sum().clamp(min=1e-9)).item()


def changes(where: Tensor, episode: Tensor) -> float:
    """Returns the share of a color's variance over the grid that lies within episodes."""
    count = torch.bincount(episode).clamp(min=1)[:, None]
    mean = torch.zeros(len(count), where.shape[1]).index_add_(0, episode, where) / count
    within = (where - mean[episode]).square().sum()
    return (within / (where - where.mean(0)).square().sum().clamp(min=1e-9)).item()

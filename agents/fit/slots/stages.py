"""Training stages of `dream_env.world_models.slots`: robot appearance, slot dynamics, and distance with success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.fit.constants import CHANGED
from dream_env.agents.fit.instructions import with_noise
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.errors import MOVED, outcome_error
from dream_env.agents.fit.trainer import Stage, ema_decay
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES

COVERED = 0.1
"""Share of a pixel's color that belongs to a thing, above which the pixel does not show the background."""
RECALLED = (0, 1, 2)
"""Number of steps after the first in which a window continues from recorded instead of predicted slots; drawn at random
for each window."""
MOVING_SHARE = 0.6
"""Share of the windows that start shortly before a slot moves; in most of the recorded time nothing moves."""


def relit(model: SlotModel, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Augments images `(B, C, S, S, 3)` uint8 with random light and a striped background of two random colors.

    Background pixels are replaced by the stripes; then the brightness of the whole image is scaled.
    """
    values, count, side = pictures.float() / 255, len(pictures), pictures.shape[2]
    still = (values - model.painter.background).abs().amax(-1, keepdim=True) < CHANGED
    colors = torch.rand(2, count, 1, 1, 1, 3, generator=generator)
    axis = torch.linspace(-1, 1, side)
    wave = 8 * torch.rand(2, count, 1, 1, 1, 1, generator=generator) - 4
    stripes = torch.sin(wave[0] * axis[:, None, None] + wave[1] * axis[None, :, None]) > 0
    light = 0.6 + 0.5 * torch.rand(count, 1, 1, 1, 1, generator=generator)
    found = light * torch.where(still, torch.where(stripes, colors[0], colors[1]), values)
    return (255 * found).round().clamp(0, 255).to(torch.uint8)


def own_stage(
    model: SlotModel, pictures: Tensor, own: Tensor, updates: int, batch: int = 48, relight: float = 0.0
) -> Stage:
    """Trains the estimation of the robot state from images, and the rendering of the robot from its state.

    Args:
        model: The model; its background and colors must be set.
        pictures: `(N, C, S, S, 3)` uint8.
        own: Standardized robot states `(N, P)` for the images.
        updates: Number of updates.
        batch: Number of images per batch.
        relight: Share of the images that are augmented by `relit` for the state estimation, 0 to 1.
    """
    parts = nn.ModuleList([part for part in (model.own_reader, model.painter.robot) if part is not None])

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        rows = torch.randint(len(own), (batch,), generator=generator)
        images = pictures[rows]
        total = torch.zeros(())
        if model.own_reader is not None:
            other = round(relight * batch)
            seen = torch.cat([relit(model, images[:other], generator), images[other:]]) if other else images
            total = total + F.smooth_l1_loss(model.own_reader(model.seen(seen)), own[rows], beta=0.1)
        few = batch // 3
        images, target = images[:few], images[:few].float() / 255
        thing = model.reader.masks(images.flatten(0, 1)).sum(-1).view(target.shape[:4])
        changed = (target - model.painter.background).abs().amax(-1) > CHANGED
        weight = (1 + 4 * changed) * (1 - thing)
        wrong = (model.painter.scene(own[rows[:few]]) - target).abs().mean(-1)
        return total + (weight * wrong).sum() / weight.sum()

    return Stage("own", parts, loss, updates, 2e-3)


@torch.no_grad()
def find_background(model: SlotModel, pictures: Tensor, most: int = 1600) -> None:
    """Sets the background: the median color of every pixel over the images that show none of the things there.

    A pixel that things cover in all images has the median of all.

    Args:
        model: The model, whose colors are set.
        pictures: `(N, C, S, S, 3)` uint8.
        most: Largest number of images to use.
    """
    some = pictures[:: max(1, len(pictures) // most)]
    things = model.reader.masks(some.flatten(0, 1)).sum(-1).view(some.shape[:4]) > COVERED
    values = some.float()
    seen = values.masked_fill(things.unsqueeze(-1), torch.nan).nanmedian(0).values
    model.painter.background.copy_(torch.where(seen.isnan(), values.median(0).values, seen) / 255)


@torch.no_grad()
def find_place(model: SlotModel, data: Recorded, rounds: int = 8, keep: float = 0.7) -> None:
    """Fits `Place`, the image position at which objects move as a function of the robot state.

    Uses least squares over all slots that moved, and drops outliers in several rounds.

    Args:
        model: The model, whose `place` is set.
        data: Episodes from `encoded`.
        rounds: Number of rounds.
        keep: Share of the samples, those with the smallest errors, to which each round after the first is fitted.
    """
    slots = data.observation["slots"].unflatten(-1, (model.cameras, FEATURES))
    visible, here = data.observation["visible"], data.acted
    features = model.place.features(model.own_of(data.observation).float())
    for camera in range(model.cameras):
        now, after = slots[here, :, camera, :2], slots[here + 1, :, camera, :2]
        both = visible[here, :, camera] & visible[here + 1, :, camera]
        jump = (after - now).norm(dim=-1) * model.config.picture_size / 2
        row, slot = ((jump > MOVED) & both).nonzero(as_tuple=True)
        if len(row) < 3 * features.shape[1]:
            continue
        given, target = (features[here[row]] + features[here[row] + 1]) / 2, (now + after)[row, slot] / 2
        kept = torch.arange(len(row))
        for _ in range(rounds):
            gram = given[kept].T @ given[kept] + 1e-3 * len(kept) * torch.eye(given.shape[1])
            weight = torch.linalg.solve(gram, given[kept].T @ target[kept])
            kept = (given @ weight - target).norm(dim=-1).argsort()[: int(keep * len(row))]
        model.place.weight[:, 2 * camera : 2 * camera + 2] = weight


def dynamics_stage(model: SlotModel, data: Recorded, updates: int, batch: int, ahead: int, rate: float) -> Stage:
    """Trains the dynamics of slots and robot on open-loop predictions over several steps.

    Args:
        model: The model.
        data: Episodes from `encoded`.
        updates: Number of updates.
        batch: Windows per batch, for each ensemble member.
        ahead: Length of the open-loop part of a window in steps, after the steps that start from recorded slots.
        rate: Peak learning rate.
    """
    parts = nn.ModuleList([part for part in (model.dynamics, model.head) if part is not None])
    own = model.own_of(data.observation)
    moved = own[data.acted + 1] - own[data.acted]
    scale = moved.square().mean(0).sqrt().clamp(min=1e-3)
    members, most = model.config.members, max(RECALLED)
    choice, eventful = torch.tensor(RECALLED), before_moves(model, data, ahead)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        count = batch * members
        begin = data.acted[torch.randint(len(data.acted), (count,), generator=generator)]
        if len(eventful):
            chosen = eventful[torch.randint(len(eventful), (count,), generator=generator)]
            begin = torch.where(torch.rand(count, generator=generator) < MOVING_SHARE, chosen, begin)
        window = data.windows(begin, ahead + most)
        recall = choice[torch.randint(len(RECALLED), (members, batch, 1, 1), generator=generator)]
        frame, action, known = (
            part.unflatten(0, (members, -1)) for part in (window.frame, window.action, window.known)
        )
        unit_action, truth = model.normalized(action), data.observation["slots"][frame]  # (E, b, W + 1, K, n)
        visible, mine = data.observation["visible"][frame], own[frame]
        slots, now = truth[:, :, 0], mine[:, :, 0]
        memory = slots.new_zeros(*slots.shape[:3], model.config.memory)
        total, used_steps = torch.zeros(()), torch.zeros(())
        for k in range(ahead + most):
            seen = recall > k - 1
            slots = torch.where(seen, truth[:, :, k], slots) if k else slots
            now = torch.where(seen[..., 0], mine[:, :, k], now) if k else now
            here, before = now, slots
            outcomes, now = model.dynamics(slots, memory, now, unit_action[:, :, k], model.place(now), model.place)
            error, which = outcome_error(model, slots, outcomes, truth[:, :, k : k + 2], visible[:, :, k + 1])
            change, memory = outcomes.pick(which)
            slots = model.moved(slots, change)
            used = known[:, :, k].float() * (recall[..., 0, 0] + ahead > k)
            error = error + F.smooth_l1_loss(now / scale, mine[:, :, k + 1] / scale, beta=0.1, reduction="none").sum(-1)
            if model.head is not None:
                transition = *(part.detach() for part in (before, here, slots, now)), unit_action[:, :, k]
                targets = (part.unflatten(0, (members, -1))[:, :, k] for part in (window.reward, window.terminated))
                error = error + _reward_error(model, transition, *targets)
            total, used_steps = total + (error * used).sum(), used_steps + used.sum()
        return total / used_steps.clamp(min=1)

    return Stage("dynamics", parts, loss, updates, rate, average=ema_decay(updates))


def before_moves(model: SlotModel, data: Recorded, ahead: int) -> Tensor:
    """Returns the frames from which some visible slot moves within `ahead` steps."""
    place = data.observation["slots"].unflatten(-1, (model.cameras, FEATURES))[..., :2]
    shown = data.observation["visible"]
    moves = torch.zeros(data.frames, dtype=torch.bool)
    far = (place[data.acted + 1] - place[data.acted]).norm(dim=-1) * model.config.picture_size / 2 > MOVED
    moves[data.acted] = (far & shown[data.acted + 1] & shown[data.acted]).flatten(1).any(1)
    soon = moves.clone()
    for k in range(1, ahead):
        soon[:-k] |= moves[k:] & (data.end[:-k] == data.end[k:])
    soon[data.last] = False
    return soon.nonzero()[:, 0]


def _reward_error(model: SlotModel, transition: tuple[Tensor, ...], reward: Tensor, terminated: Tensor) -> Tensor:
    """Returns the error of the predicted reward and termination of steps, see `SlotModel.head_outputs`."""
    predicted, end_logit = model.head_outputs(*transition)
    error = torch.zeros_like(reward)
    if model.config.rewards:
        error = error + (predicted - (reward - model.reward_mean) / model.reward_scale) ** 2
    if model.config.terminates:
        error = error + F.binary_cross_entropy_with_logits(end_logit, terminated, reduction="none")
    return error


@dataclass
class Targets:
    """Training targets of the distance, in addition to the episodes.

    Attributes:
        goal: Goal states of the N episodes, `(N, ...)` by name.
        instruction: Instruction embeddings of the episodes, `(N, I)`; None in a world without instructions.
        reached: Whether each episode reached its goal, `(N,)` bool; None if unknown.
        marked: Whether `reached` comes from success marks, rather than from goals taken from the end of episodes.
    """

    goal: Mapping[str, Tensor]
    instruction: Tensor | None
    reached: Tensor | None
    marked: bool


def distance_stage(
    model: SlotModel,
    data: Recorded,
    targets: Targets,
    updates: int,
    far: float,
    rate: float,
    batch: int = 256,
    keep_embedding: bool = False,
    instruction_noise: float = 0.0,
) -> Stage:
    """Trains the embedding, whose squared distance is a shortest-path length, and the success prediction.

    The distance to the goal is maximized subject to the constraint that a step reduces it by at most one (the linear
    program of shortest paths; similar to QRL, Wang et al. 2023). In episodes that reached their goal it is also
    regressed on the steps to go.

    Args:
        model: The model.
        data: Episodes from `encoded`.
        targets: Goals, instructions and outcomes.
        updates: Number of updates.
        far: Distance in steps beyond which all states count as equally far.
        rate: Peak learning rate.
        batch: Number of states per batch.
        keep_embedding: Whether to train the success prediction only.
        instruction_noise: Strength of the noise on instructions in training the embedding, see `with_noise`. A state
            and its goal get different noise: otherwise only their distance would be the same under all phrasings, and
            not the embeddings, which policies read.
    """
    trained = [model.success_net] if keep_embedding else [model.phi, model.success_net]
    parts = nn.ModuleList([part for part in trained if part is not None])
    episode = torch.zeros(data.frames, dtype=torch.int64)
    episode[data.first[1:]] = 1
    episode = episode.cumsum(0)
    names = [*model.spec.vectors, "slots"]

    def told(which: Tensor, generator: torch.Generator) -> Tensor | None:
        if targets.instruction is None:
            return None
        return with_noise(targets.instruction[which], instruction_noise, generator)

    def success_loss(slots: Tensor, own: Tensor, which: Tensor, reached: Tensor) -> Tensor:
        assert model.success_net is not None
        said = None if targets.instruction is None else targets.instruction[which]  # noise would blur what succeeds
        with torch.no_grad():
            _, _, final, _, goal = zip(slots.chunk(5), own.chunk(5), strict=True)
            begun = model.related({name: data.observation[name][data.first[which]] for name in names})
            shown = model.phi.embedded(model.phi.inputs(*goal, said)).transpose(0, 1).flatten(1)
            both = torch.cat([model.phi.inputs(*part, said) for part in (final, begun)], 1)
            rows = model.success_inputs(both, shown.repeat(2, 1))
        truth = torch.cat([reached, torch.zeros_like(reached)])  # first frames are failures, with a lower weight
        weight = torch.cat([torch.ones(batch), torch.full((batch,), 0.3)])
        logit = model.success_net(rows)[..., 0].mean(0)
        return F.binary_cross_entropy_with_logits(logit, truth, weight=weight)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        frame = data.acted[torch.randint(len(data.acted), (batch,), generator=generator)]
        which, end = episode[frame], data.end[frame]
        later = frame + (torch.rand(batch, generator=generator) * (end - frame + 1)).long()
        chosen = torch.cat([frame, frame + 1, end, later])
        state = {name: torch.cat([data.observation[name][chosen], targets.goal[name][which]]) for name in names}
        words = told(which.repeat(5), generator)
        with torch.no_grad():
            slots, own = model.related(state)
        slots = slots + 0.015 * torch.randn(slots.shape, generator=generator) * (slots != 0)
        own = own + 0.03 * torch.randn(own.shape, generator=generator)
        inputs = model.phi.inputs(slots, own, words)
        now, after, last, then, goal = model.phi.net(inputs).chunk(5, 1)  # (N, B, dim) each
        total = path_loss((now - goal).square().sum(-1), (after - goal).square().sum(-1), far)
        steps_to_go = (end - frame).float()
        ended = (last - goal).square().sum(-1)
        if targets.reached is not None:
            reached = targets.reached[which].float()
            over = (now - goal).square().sum(-1) - steps_to_go
            anchor = torch.where(over > 0, 0.85, 0.15) * F.smooth_l1_loss(
                over, torch.zeros_like(over), reduction="none"
            )
            total = total + (reached * (0.5 * anchor + ended)).mean()
            total = total + ((1 - reached) * (far / 6 - ended).relu()).mean()
        hindsight = (now - then).square().sum(-1) - (later - frame)
        near = (now - after).square().sum(-1) - 1
        total = total + 0.1 * hindsight.relu().square().clamp(max=100).mean() + 0.1 * near.relu().square().mean()
        if model.success_net is not None and targets.reached is not None and targets.marked:
            total = total + success_loss(slots, own, which, targets.reached[which].float())
        return total

    return Stage("distance", parts, loss, updates, rate, average=max(0.0, min(0.99, 1 - 20 / max(1, updates))))


def path_loss(now: Tensor, after: Tensor, far: float) -> Tensor:
    """Returns the shortest-path loss.

    Args:
        now: Distances to the goal, `(N, B)`.
        after: Distances to the goal one step later, `(N, B)`.
        far: Distance in steps above which it is not increased further.
    """
    return -0.2 * now.clamp(max=far).mean() + 4 * (now - 1 - after).relu().square().mean()

"""Which colors of the pictures are objects."""

import copy

import blocks
import numpy as np
import torch

from dream_env.agents.fit.slots import stages
from dream_env.agents.fit.slots.colors import find_colors
from dream_env.world_models import checkpoint


def test_neither_ground_that_varies_nor_the_robot_before_it_is_a_thing():
    """On another striped ground in every episode, the robot's color is not foretold by its state, but by its moves."""
    data, rng = blocks.dataset(80), np.random.default_rng(0)
    shown, ground = np.array(data.observation["camera0"]), (210, 210, 210)
    stripes = np.arange(blocks.SIDE) // 4 % 2 == 0
    for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        colors = rng.integers(90, 220, (2, 1)) + rng.integers(-12, 12, (2, 3))
        part = shown[begin:end]
        part[:] = np.where(part == ground, np.where(stripes[:, None], *colors[:, None, None]), part)
    frames = data.offsets[:-1, None] + np.arange(0, 9, 2)
    found = find_colors(
        torch.from_numpy(shown[frames.ravel()]),
        torch.from_numpy(data.observation["hand"][frames.ravel()]),
        torch.arange(80).repeat_interleave(5),
    )
    assert sorted((255 * found.shown).round().int().tolist()) == sorted(map(list, blocks.COLORS.values()))


def test_the_only_thing_may_follow_the_hand():
    """The hand always goes to the only object, so the robot's state explains a quarter of where it is."""
    rng, shown, own = np.random.default_rng(0), [], []
    for home in rng.uniform(-0.9, 0.9, (160, 2)):
        for hand in rng.uniform(-0.8, 0.8, (5, 2)):
            picture = np.full((32, 32, 3), 210, np.uint8)
            for place, color, half in ((0.75 * hand + 0.25 * home, (20, 180, 20), 2), (hand, (110, 110, 110), 3)):
                column, row = ((place + 1) * 16).astype(int)
                picture[max(0, row - half) : row + half, max(0, column - half) : column + half] = color
            shown.append(picture)
            own.append(hand)
    found = find_colors(
        torch.from_numpy(np.stack(shown)), torch.tensor(np.array(own)).float(), torch.arange(160).repeat_interleave(5)
    )
    assert (255 * found.shown).round().int().tolist() == [[20, 180, 20]] and 0.2 < found.explained[0] < 0.5


def test_the_background_is_what_was_seen_without_things():
    model = copy.deepcopy(checkpoint.load("unlabelled"))
    table, cube = torch.tensor([212, 209, 203], dtype=torch.uint8), torch.tensor([162, 15, 15], dtype=torch.uint8)
    pictures = table.expand(10, 1, 64, 64, 3).clone()
    pictures[:7, :, 20:26, 30:36] = cube  # in most images
    pictures[:, :, 50:52, 10:12] = cube  # in all of them
    stages.find_background(model, pictures)
    found = (255 * model.painter.background[0]).round().byte()
    assert (found[20:26, 30:36] == table).all() and (found[50:52, 10:12] == cube).all()

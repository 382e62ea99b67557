"""Episodes again, with their cubes in other colors."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import test_fit
import torch
from toy import ToyWorldModel

from dream_env.agents.fit.state_grounded import command, dynamics, stages
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, encode_episodes, recolor
from dream_env.nicol.language import COLORS
from dream_env.nicol.layout import Layout
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.nicol.world_model.state_estimator import HAND, StateEstimator


def test_pictures_are_those_of_a_camera_that_sees_other_colors():
    env = gym.make("NicoLReal-v0", task="lift", obs_type="pixels", reward="success", world_model=None).unwrapped
    layout = Layout.draw(np.random.default_rng(0))
    pictures = []
    for places in range(len(COLORS)):
        there = replace(layout, colors=(layout.colors + places) % len(COLORS))
        obs, _ = env.reset(seed=0, options={"layout": there})
        frames = [obs["pixels"]]
        for action in np.random.default_rng(1).uniform(-1, 1, (6, 4)).astype(np.float32):
            frames.append(env.step(action)[0]["pixels"])
        pictures.append(np.stack(frames))
    env.close()
    for places, seen in enumerate(pictures):
        drawn = recolor(pictures[0], places)
        assert drawn.shape == seen.shape and drawn.dtype == np.uint8
        assert np.abs(drawn.astype(int) - seen).max() <= 3, places
    assert (pictures[0] != pictures[1]).any(-1).mean() > 0.01
    assert recolor(pictures[0], len(COLORS)) is pictures[0]


def test_truth_goes_with_the_picture():
    data = test_fit.toy(4)
    model = ToyWorldModel()
    plain, other = encode_episodes(model, data), encode_episodes(model, data, recolored=1)
    assert other.named.equal((plain.named + 1) % len(COLORS))
    for name in ("held", "present"):
        assert getattr(other, name).roll(-1, 2).equal(getattr(plain, name)), name
    assert other.cubes.roll(-1, 2).nan_to_num(-1).equal(plain.cubes.nan_to_num(-1))
    assert not other.tokens.equal(plain.tokens)
    for name in ("proprio", "action", "instruction", "condition", "hand"):
        assert getattr(other, name).equal(getattr(plain, name)), name
    both = EncodedDataset.concatenate([plain, other])
    assert len(both.tokens) == 8 and both.take(torch.arange(4, 8)).tokens.equal(other.tokens)


def test_every_stage_on_tokens_but_the_arm_renderer_sees_other_colors(tmp_path, monkeypatch):
    data, args = test_fit.toy(10), test_fit.arguments(tmp_path / "fit", recolor=2)
    seen = {}

    def spy(module, name):
        make = getattr(module, name)

        def stage(*given):
            parts = [each for part in given for each in (part if isinstance(part, stages.States) else [part])]
            seen[name] = [len(part.tokens) for part in parts if isinstance(part, EncodedDataset)]
            return make(*given)

        monkeypatch.setattr(module, name, stage)

    for name in ("state_estimator", "success", "metric"):
        spy(stages, f"{name}_stage")
    for name in ("arm_renderer", "object_dynamics", "predictor"):
        spy(dynamics, f"{name}_stage")
    command.train(args, data)
    assert seen.pop("arm_renderer_stage") == [8, 2], "the arm has no color"
    assert len(seen) == 5 and all(sizes == [24, 2] for sizes in seen.values()), seen
    with pytest.raises(ValueError, match="recolor=4 is not known; accepted: 0, 1, 2, 3"):
        command.train(replace(args, recolor=4), data)


def test_every_episode_is_dreamt_in_one_of_its_colorings():
    data, model = test_fit.toy(4), StateGroundedModel(StateGroundedConfig(width=16, blocks=1)).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.1)
    colorful = EncodedDataset.concatenate([encode_episodes(model, data, recolored=places) for places in range(3)])
    dreams = stages.dream(model, colorful, 4)
    assert dreams.rows.tolist() == [0, 5, 10, 3]
    assert dreams.tokens.shape == colorful.tokens[:4].shape
    assert dreams.tokens[:, 0].equal(colorful.tokens[dreams.rows, 0])
    assert not dreams.tokens[:, -1].equal(dreams.tokens[:, 0])
    torch.testing.assert_close(dreams.object_state[:, 0], model.state_estimator(dreams.tokens[:, 0].float()))


def test_a_cube_is_estimated_with_the_hand_in_view():
    torch.manual_seed(0)
    estimator = StateEstimator(channels=4, grid=4)
    tokens = torch.randn(2, 16, 4)
    estimator(tokens)[:, len(HAND) :].square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in estimator.hand.parameters())


def test_the_state_estimator_learns_much_of_what_is_rare(tmp_path):
    latents = encode_episodes(ToyWorldModel(), test_fit.toy(40))
    held = torch.zeros_like(latents.held)
    held[7, 3, 1] = True
    cubes = latents.cubes[:, :1].expand_as(latents.cubes).clone()
    cubes[9, 2, 0, 0] += 2 * stages.MOVED
    marked = latents.tokens.clone()
    marked[:] = 0
    marked[7, 3], marked[9, 2] = 1, 2
    latents = latents._replace(held=held, cubes=cubes.nan_to_num(), tokens=marked)
    shown = []

    class Spy(StateEstimator):
        def forward(self, tokens):
            shown.append(tokens[:, 0, 0])
            return super().forward(tokens)

    args = test_fit.arguments(tmp_path / "fit", state_estimator_batch=160)
    stage = stages.state_estimator_stage(args, Spy(16, 8), latents, latents)
    stage.loss(torch.Generator().manual_seed(0), 0.0)
    counts = [int((shown[0] == mark).sum()) for mark in (1, 2)]
    assert all(30 <= count <= 35 for count in counts), counts

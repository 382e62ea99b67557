"""Replays of recorded episodes in the dream, and the probe that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from gymnasium.vector import AutoresetMode
from recorded import TASKS, recorded

from dream_env.agents.fidelity import repeat, replay
from dream_env.agents.nicol import probes
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.initial_states import of_pictures
from dream_env.nicol.language import COLORS
from dream_env.rewards import RewardName
from dream_env.world_models import checkpoint

HALF = EPISODE_STEPS // 2


@pytest.fixture(scope="module")
def model():
    return toy.ToyWorldModel()


@pytest.fixture(scope="module")
def episodes():
    return recorded(24)


@pytest.fixture(scope="module")
def latents(model, episodes):
    return encode_episodes(model, episodes)


def test_jobs_are_balanced_and_grow_at_the_end():
    jobs = replay.jobs(TASKS, ("a", "b"), 48, 100)
    assert [job.seed for job in jobs] == list(range(100, 148))
    for task in TASKS:
        kinds = [job.kind for job in jobs if job.task == task]
        assert all(kinds.count(kind) == 4 for kind in replay.ACTORS)
    assert [job.policy for job in jobs if job.policy] == 2 * (3 * ["a"] + 3 * ["b"])
    assert replay.jobs(TASKS, ("a", "b"), 24, 100) == jobs[:24]
    assert {job.kind for job in replay.jobs(TASKS, (), 30, 0)} == {"expert", "misjudge", "play"}


def test_held_out_episodes_are_recorded_once_and_in_order(toy_folder, tmp_path):
    jobs = replay.jobs(("lift", "reach"), (), 2, 100_000)
    first = replay.held_out(jobs[1:], toy_folder, tmp_path / "episodes", workers=1)
    both = replay.held_out(jobs, toy_folder, tmp_path / "episodes", workers=1)
    assert both.seed.tolist() == [100_000, 100_001] and both.task.tolist() == ["lift", "reach"]
    np.testing.assert_array_equal(first.images[0], both.images[1])


def test_physics_again_is_the_same_where_the_cubes_are(toy_folder, tmp_path):
    episodes = replay.held_out(replay.jobs(("lift",), (), 2, 100_000), toy_folder, tmp_path / "episodes", workers=1)
    for row in range(2):
        take = repeat.Take(int(episodes.seed[row]), "lift", episodes.action[row])
        ends, condition = repeat.play(take, 0.0)
        np.testing.assert_allclose(ends, 100 * episodes.objects[row, -1], atol=1e-4)
        assert condition == episodes.condition[row, -1]
    again = repeat.again(episodes, workers=1)
    way = np.linalg.norm(episodes.objects - episodes.objects[:, :1], axis=-1).max(1)
    np.testing.assert_array_equal(np.isfinite(again.error), way > 0.01)
    assert np.isfinite(again.error).any() and np.nanmin(again.error) > 0 and again.condition.shape == (2,)
    assert repeat.median(again.error)["cubes_moved"] == int((way > 0.01).sum())
    assert repeat.median(again.take(np.array([False, True])).error)["cubes_moved"] == int((way[1] > 0.01).sum())
    assert repeat.median(np.full((1, 3), np.nan)) == {"moved": None, "cubes_moved": 0}


def test_digests_tell_encoders_apart(model):
    assert replay.encoder_digest(model) == replay.encoder_digest(toy.ToyWorldModel())
    assert replay.encoder_digest(model) != replay.encoder_digest(toy.ToyWorldModel(toy.ToyConfig(seed=1)))


def played(model, episodes, start=0, **kwargs):
    """The same actions in the environment of dreams: sums of rewards, and the last info."""
    rows = np.arange(len(episodes))
    pictures = np.array(episodes.images[:, start]), episodes.proprio[:, start], np.array(episodes.goal_image)
    states = of_pictures(*pictures, episodes.task, episodes.instruction)
    env = NicoLDreamVectorEnv(
        len(rows),
        "all",
        world_model=model,
        initial_states=states,
        temperature=0.0,
        autoreset_mode=AutoresetMode.DISABLED,
        **kwargs,
    )
    env.reset(seed=0, options={"start": rows})
    steps = [env.step(action) for action in episodes.action[:, start:].swapaxes(0, 1)]
    return np.sum([reward for _, reward, *_ in steps], axis=0), steps[-1][-1]


@pytest.mark.parametrize("reward", ["energy", "progress", "bounded", "metric_bounded", "success"])
def test_a_replay_is_paid_what_the_dreams_environment_pays(model, episodes, latents, reward):
    for start in (0, HALF):
        dream = replay.dream_rollout(model, latents, start)
        paid, info = played(model, episodes, start, reward=reward)
        np.testing.assert_allclose(replay.returns(model, latents, dream)[reward], paid, rtol=5e-3, atol=2e-3)
        np.testing.assert_allclose(dream.probability[:, -1], info["success_probability"], atol=2e-3)
        assert np.array_equal(dream.success, info["is_success"]) and dream.disagreement.shape == (24, 24 - start)


def test_physics_is_paid_for_what_was_recorded(model, episodes, latents):
    returns = replay.returns(model, latents, replay.physics_rollout(model, latents))
    assert set(returns) == set(RewardName.__args__) - {"environment"}
    held = np.stack([episodes.condition[:, t - 2 : t + 1].all(1) for t in range(3, EPISODE_STEPS + 1)], axis=1)
    np.testing.assert_allclose(returns["success"], held.sum(1))
    goal = latents.goal[:, None].float()
    distance = (latents.tokens.float() - goal).square().mean((2, 3))[:, 1:]
    np.testing.assert_allclose(returns["energy"], -distance.sum(1), rtol=0.02)


def test_a_dream_is_paid_for_the_object_state_that_it_keeps(episodes):
    """Which may be another one than an estimator would read off its tokens."""
    model, few = checkpoint.load("state_grounded"), episodes.take(np.arange(3))
    latents = encode_episodes(model, few)
    paid = replay.returns(model, latents, replay.dream_rollout(model, latents))
    for reward, tolerance in (("metric_bounded", 2e-3), ("energy", 2e-3)):
        np.testing.assert_allclose(paid[reward], played(model, few, reward=reward)[0], rtol=tolerance)


def test_noise_makes_another_dream_and_the_same_noise_the_same(model, latents):
    first, again, calm = (
        replay.dream_rollout(model, latents, HALF, seed and torch.Generator().manual_seed(seed))
        for seed in (1, 1, None)
    )
    assert torch.equal(first.tokens, again.tokens) and not torch.equal(first.tokens, calm.tokens)


def test_a_model_without_a_learned_metric_has_the_other_rewards(latents):
    class Blind(toy.ToyWorldModel):
        metric = None

    blind = Blind()
    returns = replay.returns(blind, latents, replay.physics_rollout(blind, latents))
    assert {"energy", "progress", "bounded", "success"} == set(returns)


def test_probe_finds_cubes_hand_and_grip():
    generator = torch.Generator().manual_seed(0)
    count, colors = 400, len(COLORS)
    cell = torch.stack([torch.randperm(64, generator=generator)[:colors] for _ in range(count)])
    kept = torch.rand(count, colors, generator=generator) < 0.5
    tokens = torch.zeros(count, 1, 64, 8)
    rows = torch.arange(count)
    for color in range(colors):
        tokens[rows, 0, cell[:, color], color] = 3.0
        tokens[rows, 0, cell[:, color], 4 + color] = 3.0 * kept[:, color]
    cubes = torch.stack([cell // 8, cell % 8, 10 * kept], dim=-1).float()[:, None]
    cubes[rows, :, rows % colors] = torch.nan
    proprio = torch.rand(count, 1, 4, generator=generator)
    train = encode_episodes(toy.ToyWorldModel(), recorded(4))._replace(
        tokens=tokens.half(), proprio=proprio, cubes=cubes, hand=10 * proprio[..., :3], held=kept[:, None]
    )
    probe = probes.fit_probe(train, updates=300)
    read = probes.read(probe, tokens, proprio)
    there = train.present
    assert (read.cubes - cubes).norm(dim=-1)[there].median() < 0.7
    assert (read.hand - train.hand).norm(dim=-1).median() < 1.0
    assert ((read.held > 0) == train.held)[there].float().mean() > 0.9


def test_a_cube_is_held_by_a_closed_hand_only(model, episodes):
    latents = encode_episodes(model, episodes)
    middle = torch.from_numpy(episodes.colors[:, 1])
    held = latents.held[torch.arange(len(episodes)), :, middle]
    assert torch.equal(held, torch.from_numpy(episodes.held)) and latents.held.sum() == held.sum()
    opened = replace(episodes, proprio=np.where(np.arange(4) == 3, -1, episodes.proprio).astype(np.float32))
    assert not encode_episodes(model, opened).held.any()

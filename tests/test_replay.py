"""Replays of recorded episodes in the dream, and the probe that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from recorded import TASKS, recorded

from dream_env.agents.data.encoded_dataset import encode_episodes
from dream_env.agents.eval import probes
from dream_env.agents.eval.model_metrics import open_loop
from dream_env.agents.fidelity import repeat, replay
from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.constants import EPISODE_STEPS, HOLD_STEPS
from dream_env.nicol.language import COLORS
from dream_env.rewards import METRIC_SCALE, RewardName
from dream_env.world_models import checkpoint
from dream_env.world_models.legacy import LatentState

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
        assert all(kinds.count(kind) == 4 for kind in replay.KINDS)
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


def test_eyes_tell_encoders_apart(model):
    assert replay.eyes(model) == replay.eyes(toy.ToyWorldModel())
    assert replay.eyes(model) != replay.eyes(toy.ToyWorldModel(toy.ToyConfig(seed=1)))


def test_a_replay_is_the_open_loop_dream(model, episodes, latents):
    for start in (0, HALF):
        film = replay.dream_film(model, episodes, start=start)
        action = latents.action[:, start:]
        state = LatentState(film.tokens[:, 0].float(), torch.tensor(episodes.proprio[:, start]))
        expected = open_loop(model, state, action).tokens
        torch.testing.assert_close(film.tokens, expected, atol=0.02, rtol=0.02)
        called = film.probability[:, -HOLD_STEPS:] >= model.config.success_threshold
        assert torch.equal(film.success, called.all(1))


def test_physics_passes_through_the_dreams_own_environment(model, episodes, latents):
    film = replay.physics_film(model, episodes, latents)
    returns = replay.returns(model, episodes, film)
    assert set(returns) == set(RewardName.__args__)
    held = np.stack([episodes.condition[:, t - 2 : t + 1].all(1) for t in range(3, EPISODE_STEPS + 1)], axis=1)
    np.testing.assert_allclose(returns["success"], held.sum(1))
    goal = latents.goal[:, None].float()
    distance = (latents.tokens.float() - goal).square().mean((2, 3))[:, 1:]
    np.testing.assert_allclose(returns["energy"], -distance.sum(1), rtol=0.02)


def test_a_dream_is_paid_for_the_situation_that_it_keeps(episodes):
    """Which may be another one than a reader would read off its tokens."""
    model, few = checkpoint.load("default"), episodes.take(np.arange(3))
    film, paid = replay.dream_film(model, few), replay.returns(model, few)
    with torch.inference_mode():
        state = model.encode(torch.tensor(few.images[:, 0]), torch.tensor(few.proprio[:, 0]))
        goal = model.metric(model.embedding(model.encode(torch.tensor(few.goal_image), state.proprio)))
        expected = torch.zeros(3)
        for action in torch.tensor(few.action).unbind(1):
            state = model.step(state, action)
            vectors, _ = model.judge(state, goal, torch.zeros(3, INSTRUCTION_DIM))
            expected += torch.exp(-(vectors - goal).norm(dim=1) / METRIC_SCALE)
    np.testing.assert_allclose(paid["metric_bounded"], expected, rtol=1e-4)
    np.testing.assert_allclose(paid["energy"], replay.returns(model, few, film)["energy"], rtol=0.02)


def test_a_model_without_a_learned_metric_has_the_other_rewards(episodes, latents):
    class Blind(toy.ToyWorldModel):
        metric = None

        def __getattribute__(self, name):
            if name == "metric":
                raise AttributeError(name)
            return super().__getattribute__(name)

    blind = Blind()
    returns = replay.returns(blind, episodes, replay.physics_film(blind, episodes, latents))
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

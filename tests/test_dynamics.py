"""The world model of any environment: what it takes and gives, and that it learns."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.spec import WorldSpec, success_of
from dream_env.world_models import checkpoint
from dream_env.world_models.dynamics import DynamicsConfig, DynamicsModel
from dream_env.wrappers import WorldModelWrapper

VECTOR = spaces.Box(np.array([-1, -1, -8], np.float32), np.array([1, 1, 8], np.float32))
TORQUE = spaces.Box(-2.0, 2.0, (1,))


def picture(height, width):
    return spaces.Box(0, 255, (height, width, 3), np.uint8)


def made(observation, action, **config):
    torch.manual_seed(0)
    spec = WorldSpec("world", spaces.Dict(observation), action)
    small = {"members": 3, "width": 16, "latent": 4, "channels": (4, 4, 4), "picture_size": 16}
    return DynamicsModel(DynamicsConfig(**(small | config)), spec).eval().requires_grad_(False)


WORLDS = {
    "vector": (lambda: made({"state": VECTOR}, TORQUE), lambda n: torch.rand(n, 1) * 4 - 2),
    "picture": (
        lambda: made({"pixels": picture(20, 36)}, spaces.Discrete(3, start=1), memory=8),
        lambda n: torch.randint(1, 4, (n,)),
    ),
    "both": (
        lambda: made({"front": picture(16, 16), "state": VECTOR, "top": picture(24, 8)}, TORQUE, memory=8),
        lambda n: torch.rand(n, 1) * 4 - 2,
    ),
}


def observed(model, count, seed=0):
    model.spec.observation.seed(seed)
    rows = [model.spec.observation.sample() for _ in range(count)]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


@pytest.fixture(params=WORLDS, ids=str)
def world(request):
    build, act = WORLDS[request.param]
    return build(), act


def test_a_step_gives_a_state_and_a_prediction_of_every_row(world):
    model, act = world
    state = model.encode(observed(model, 6))
    after, told = model.step(state, act(6), torch.rand(6, model.noise_dim))
    assert after.keys() == state.keys() and all(after[name].shape == state[name].shape for name in state)
    assert model.embedding(after).shape == (6, model.embedding_dim)
    for value in (told.reward, told.terminated, told.disagreement):
        assert value.shape == (6,) and value.isfinite().all()
    assert (told.disagreement > 0).all() and ((0 <= told.terminated) & (told.terminated <= 1)).all()


def test_decoded_observations_lie_in_the_observation_space(world):
    model, act = world
    decoded = model.decode(model.step(model.encode(observed(model, 5)), act(5))[0])
    for row in range(5):
        assert model.spec.observation.contains({name: part[row].numpy() for name, part in decoded.items()})


def test_a_row_is_the_same_in_any_company(world):
    model, act = world
    seen, action, noise = observed(model, 7), act(7), torch.rand(7, model.noise_dim)
    together, told = model.step(model.encode(seen), action, noise)
    alone, told_alone = model.step(model.encode({k: v[3:4] for k, v in seen.items()}), action[3:4], noise[3:4])
    for name in together:
        torch.testing.assert_close(together[name][3:4], alone[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(told.reward[3:4], told_alone.reward, rtol=1e-4, atol=1e-5)


def test_noise_leads_from_the_likeliest_as_far_as_temperature_lets_it(world):
    model, act = world
    state, action, noise = model.encode(observed(model, 4)), act(4), torch.rand(4, model.noise_dim)
    likeliest = model.step(state, action)[0]["code"]
    reached = [model.step(state, action, noise, temperature)[0]["code"] for temperature in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(reached[0], likeliest)
    torch.testing.assert_close(reached[1] - likeliest, (reached[2] - likeliest) / 2, rtol=1e-3, atol=1e-5)
    assert (reached[2] - likeliest).abs().max() > 0.01


def test_states_and_predictions_stay_in_single_precision(world):
    model, act = world
    state = model.encode(observed(model, 2))
    with torch.autocast("cpu", torch.bfloat16):
        after, told = model.step(state, act(2), torch.rand(2, model.noise_dim))
    assert {part.dtype for part in (*after.values(), told.reward, told.terminated, told.disagreement)} == {
        torch.float32
    }


def test_extreme_noise_stays_finite():
    model = WORLDS["vector"][0]()
    noise = torch.tensor([[0.0] * model.noise_dim, [1 - 2**-24] * model.noise_dim])
    after, _ = model.step(model.encode(observed(model, 2)), torch.zeros(2, 1), noise)
    assert after["code"].isfinite().all()


def test_vectors_come_back_as_they_were():
    model = WORLDS["vector"][0]()
    model.measure_data(torch.tensor([[0.0, 0.5, 3.0], [0.2, -0.5, -1.0]]), torch.zeros(2, 1), torch.tensor([1.0, 2.0]))
    seen = observed(model, 5)
    torch.testing.assert_close(model.decode(model.encode(seen))["state"], seen["state"])


def test_memory_comes_from_what_was_before():
    model, act = (make for make in WORLDS["picture"])
    model = model()
    seen = observed(model, 2)
    first = model.encode(seen)
    assert (first["memory"] == 0).all() and model.has_memory
    after, _ = model.step(first, act(2))
    second = model.encode(seen, after)
    assert torch.equal(second["memory"], after["memory"]) and torch.equal(second["code"], first["code"])
    assert not torch.equal(model.step(second, act(2))[0]["code"], model.step(first, act(2))[0]["code"])


def test_predictions_stay_near_what_was_recorded():
    model = WORLDS["vector"][0]()
    codes = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    model.measure_codes(codes, torch.full((2, 3), 1e3))
    model.change_scale.fill_(1e3)
    after, _ = model.step({"code": codes}, torch.ones(2, 1), torch.rand(2, model.noise_dim))
    assert after["code"].min() >= -0.051 and after["code"].max() <= 0.551


def test_what_was_not_recorded_is_not_told():
    model = made({"state": VECTOR}, TORQUE, rewards=False, terminates=False)
    told = model.step(model.encode(observed(model, 1)), torch.zeros(1, 1))[1]
    assert told.reward is None and told.terminated is None and told.success is None


def test_a_saved_model_is_the_same_model(tmp_path):
    model = WORLDS["both"][0]()
    checkpoint.save(model, tmp_path, "# Card\n")
    loaded = checkpoint.load(tmp_path)
    seen, action = observed(model, 3), torch.zeros(3, 1)
    assert loaded.spec == model.spec
    assert torch.equal(
        loaded.step(loaded.encode(seen), action)[0]["code"], model.step(model.encode(seen), action)[0]["code"]
    )


@pytest.mark.parametrize("wrong", [{"members": 0}, {"memory": -1}, {"picture_size": 20}])
def test_a_shape_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made({"state": VECTOR}, TORQUE, **wrong)


def test_an_observation_without_its_picture_is_refused():
    model = WORLDS["both"][0]()
    with pytest.raises(ValueError, match="front"):
        model.encode({"state": torch.zeros(1, 3)})


class Still(gym.Env):
    """Nothing happens in it, and it calls success "success", as Meta-World does."""

    observation_space = VECTOR
    action_space = TORQUE

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {"success": 0.0}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {"success": 1.0}


def test_success_is_known_by_both_of_its_names():
    assert success_of({"is_success": False, "success": True}) is False and success_of({}) is None
    env = WorldModelWrapper(Still(), made({"state": VECTOR}, TORQUE), reward="success")
    env.reset(seed=0)
    assert env.step(TORQUE.sample())[1] == 1.0


def test_the_memory_of_a_real_episode_is_of_the_actions_that_were_done():
    model = made({"state": VECTOR}, TORQUE, memory=8)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)

    def memory(torque):
        env = WorldModelWrapper(Still(), model)
        env.reset(seed=0)
        for _ in range(4):
            env.step(np.array([torque], np.float32))
        return env.state["memory"]

    assert torch.equal(memory(2.0), memory(50.0)) and not torch.equal(memory(2.0), memory(1.0))

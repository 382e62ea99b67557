"""Controllers of a few weights: what they see, what they do, and how they are kept."""

import exact_cartpole
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents.evolve.dreams import DreamPopulation
from dream_env.agents.evolve.start import begin, fit
from dream_env.agents.planners.prior import Prior
from dream_env.agents.policies import registry
from dream_env.agents.policies.controller import Controller, ControllerConfig
from dream_env.dream import DreamVectorEnv
from dream_env.dream_config import DreamConfig
from dream_env.engine import DreamEngine
from dream_env.nicol.constants import denormalize
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.env import NicoLRealEnv
from dream_env.spec import space_to_json
from dream_env.world_models import checkpoint

BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 4], np.float32))


def controller(space=BOX, size=3, hidden=0, seed=0):
    form = ControllerConfig(("state",), (size,), ("state",), space_to_json(space), hidden, obs_type="native")
    made = Controller(form)
    generator = torch.Generator().manual_seed(seed)
    made.weights.copy_(torch.randn(made.weights.shape, generator=generator))
    return made


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return exact_cartpole.save(tmp_path_factory.mktemp("exact"))


def test_a_linear_controller_is_a_matrix_and_a_bias():
    made = controller()
    made.center.copy_(torch.tensor([1.0, 0, 0]))
    made.spread.copy_(torch.tensor([2.0, 1, 1]))
    seen = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    matrix, bias = made.weights[:6].view(2, 3).numpy(), made.weights[6:].numpy()
    told = (seen - [1, 0, 0]) / [2, 1, 1] @ matrix.T + bias
    expected = np.clip(np.array([0, 2]) + np.array([1, 2]) * told, BOX.low, BOX.high)
    np.testing.assert_allclose(made.act({"state": seen}), expected, atol=1e-5)
    assert (expected == BOX.low).any() or (expected == BOX.high).any()


def test_a_hidden_layer_is_one_of_torchs():
    made = controller(hidden=5)
    first, second = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    sizes = [part.numel() for part in (first.weight, first.bias, second.weight, second.bias)]
    parts = made.weights.split(sizes)
    with torch.no_grad():
        for part, value in zip((first.weight, first.bias, second.weight, second.bias), parts, strict=True):
            part.copy_(value.view_as(part))
        seen = torch.randn(7, 3)
        expected = second(torch.tanh(first(seen)))
    torch.testing.assert_close(made.network(made.weights[None], seen[None])[0], expected)


def test_choices_begin_where_their_space_does():
    made = controller(spaces.Discrete(3, start=5))
    action = made.act({"state": np.random.default_rng(0).normal(size=(50, 3))})
    assert action.dtype == np.int64 and set(action.tolist()) == {5, 6, 7}


def test_actions_without_bounds_are_not_clipped():
    made = controller(spaces.Box(-np.inf, np.inf, (2,), np.float32))
    assert np.abs(made.act({"state": np.full((1, 3), 100.0)})).max() > 50


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_population_acts_as_each_alone(hidden):
    made = controller(hidden=hidden)
    many, seen = torch.randn(6, made.weights.numel()), torch.randn(6, 8, 3)
    together = made.choose(many, seen)
    for weights, own, action in zip(many, seen, together, strict=True):
        torch.testing.assert_close(made.choose(weights[None], own[None])[0], action)


@pytest.mark.parametrize("space", [BOX, spaces.Discrete(3)])
def test_a_fit_finds_the_controller_whose_actions_it_sees(space):
    made = controller(space)
    made.weights.mul_(0.3)
    seen = torch.randn(4000, 3)
    action = made.choose(made.weights[None], seen[None])[0]
    found = torch.from_numpy(fit(made, seen, action)).float()
    again = made.choose(found[None], seen[None])[0]
    if isinstance(space, spaces.Discrete):
        assert (again == action).float().mean() > 0.9
    else:
        assert (again - action).abs().mean() < 0.1


def test_a_fit_by_a_hidden_layer_is_nearer_where_the_policy_is_bent():
    seen = torch.randn(2000, 3)
    action = torch.stack([torch.sin(3 * seen[:, 0]), 2 + seen[:, 1].abs()], 1)
    errors = []
    for hidden in (0, 64):
        made = controller(hidden=hidden)
        weights = torch.from_numpy(fit(made, seen, action)).float()
        errors.append((made.choose(weights[None], seen[None])[0] - action).abs().mean())
    assert errors[1] < 0.7 * errors[0]


def test_the_shipped_models_features_make_a_small_controller(tmp_path):
    model = checkpoint.load("state_grounded")
    made = Controller(ControllerConfig.of(model, "state_grounded"))
    assert made.config.inputs == ("features",) and made.config.sizes == (12,) and made.weights.numel() == 52
    assert made.inputs == ("embedding", "goal", "proprio", "instruction")
    envs = NicoLDreamVectorEnv(3, "reach", world_model="state_grounded")
    obs, _ = envs.reset(seed=0)
    state = envs.dreams.engine.state(envs.dreams.carry)
    parts = {name: torch.from_numpy(part) for name, part in obs.items()}
    torch.testing.assert_close(made.seen(parts), made.imagined(model, state, None), atol=1e-4, rtol=1e-4)
    for name, part in model.features(state).items():
        assert part.shape == (3, {"way": 3, "lag": 3, "set_point": 4, "grip": 2}[name])
    assert envs.action_space.contains(made.act(obs))


def test_a_controller_looks_at_what_it_is_told_to(toy_folder):
    model = checkpoint.load(toy_folder)
    config = ControllerConfig.of(model, toy_folder, ("proprio", "instruction"))
    assert config.sizes == (4, 64) and config.reads == ("proprio", "instruction")
    everything = ControllerConfig.of(model, toy_folder)
    assert everything.inputs == ("embedding", "goal", "proprio", "instruction")


def test_the_way_of_the_features_leads_to_the_cube_that_is_named():
    model, env = checkpoint.load("state_grounded"), NicoLRealEnv("reach")
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        words = model.instruction(env.instruction)
        parts = {name: obs[name][None] for name in ("pixels", "proprio")} | {"instruction": words[None]}
        found = model.features(model.encode({name: torch.tensor(part) for name, part in parts.items()}))
        truth = env.truth()
        cube = truth["objects"][truth["target"]][:3]
        hand = denormalize(obs["proprio"])[:3]
        np.testing.assert_allclose(found["way"][0].numpy(), 10 * (cube - hand), atol=0.3)
        assert np.abs(found["lag"].numpy()).max() < 0.5
    env.close()


def test_principal_components_are_uncorrelated_and_of_unit_variance(cartpole):
    engine = DreamEngine(DreamConfig(world_model=cartpole))
    dreams = DreamPopulation(engine, max_steps=60)
    made = Controller(ControllerConfig.of(engine.model, cartpole, components=3))
    assert made.weights.numel() == 2 * (3 + 1) and len(begin(made, dreams, "none", 0)) == 8
    signal = made.signal(dreams.visited(made, None, 128, (0, 3))[0])
    torch.testing.assert_close(torch.cov(signal.T), torch.eye(3), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["tokens", "wings"])
def test_inputs_that_are_no_vectors_are_refused_with_what_is_accepted(toy_folder, name):
    with pytest.raises(ValueError, match=rf"{name}.*accepted.*embedding.*proprio"):
        ControllerConfig.of(checkpoint.load(toy_folder), toy_folder, (name,))


def test_a_missing_part_is_named():
    with pytest.raises(ValueError, match="state"):
        controller().act({"pixels": np.zeros((1, 3))})


@pytest.mark.parametrize("obs_type", ["embedding", "native"])
def test_a_saved_controller_acts_as_before_in_every_form_of_the_dream(tmp_path, cartpole, obs_type):
    model = checkpoint.load(cartpole)
    made = Controller(ControllerConfig.of(model, cartpole, obs_type=obs_type))
    made.weights.copy_(torch.randn(made.weights.shape))
    registry.save(made, tmp_path, "For tests.")
    again = registry.load(tmp_path)
    envs = DreamVectorEnv(9, world_model=cartpole, obs_type=obs_type)
    obs, _ = envs.reset(seed=0)
    obs = obs if isinstance(obs, dict) else {"state": obs}
    assert again.config == made.config and np.array_equal(again.act(obs), made.act(obs))
    assert envs.action_space.contains(again.act(obs))


def test_a_controller_proposes_plans(cartpole):
    model = checkpoint.load(cartpole)
    made = Controller(ControllerConfig.of(model, cartpole))
    from dream_env.observations import ObservationBuilder

    state = model.encode({"state": torch.zeros(4, 4)})
    assert Prior(made).act(ObservationBuilder(model), state, None).shape == (4,)


@pytest.mark.parametrize("wrong", [{"inputs": ()}, {"hidden": -1}, {"obs_type": "pixels"}, {"sizes": (0,)}])
def test_a_damaged_config_is_refused(wrong):
    given = {"inputs": ("state",), "sizes": (3,), "reads": ("state",), "action_space": space_to_json(BOX)}
    with pytest.raises(ValueError, match="accepted"):
        ControllerConfig(**{**given, **wrong})

"""World Models (V and M): what it takes and gives, its mixtures, its temperature, its ends, and that it learns."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats

from dream_env.agents.fit.vmc import command as vmc_fit
from dream_env.agents.fit.vmc import stages as vmc_stages
from dream_env.agents.fit.vmc.arguments import Arguments
from dream_env.agents.fit.vmc.command import fit
from dream_env.agents.policies.controller import ControllerConfig
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.dream import DreamEnv, DreamVectorEnv
from dream_env.initial_states import InitialStates
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.mdn_rnn import MDNRNN, Mixture
from dream_env.world_models.vae import ALIVE, VAE, Gaussian
from dream_env.world_models.vmc import PRESETS, VMCConfig, VMCModel
from dream_env.wrappers import WorldModelWrapper

SMALL: dict[str, Any] = {"latent": 4, "channels": (2, 3, 4, 4), "memory": 6, "mixtures": 3}


def picture(height: int, width: int) -> spaces.Box:
    return spaces.Box(0, 255, (height, width, 3), np.uint8)


def made(action: Any = None, side: tuple[int, int] = (20, 36), **config: Any) -> VMCModel:
    torch.manual_seed(0)
    spec = WorldSpec("world", spaces.Dict({"pixels": picture(*side)}), action or spaces.Discrete(3, start=1), horizon=9)
    model = VMCModel(VMCConfig(**(SMALL | config)), spec).eval().requires_grad_(False)
    model.rnn.head.weight.mul_(4)  # as far from uniform as after a fit
    return model


WORLDS = {
    "discrete": (made, lambda n: torch.randint(1, 4, (n,))),
    "box": (lambda: made(spaces.Box(-2.0, 6.0, (2,)), (64, 64)), lambda n: torch.rand(n, 2) * 8 - 2),
}


def observed(model: VMCModel, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *model.spec.observation["pixels"].shape)
    return {"pixels": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)}


def starts(model: VMCModel, count: int = 4) -> InitialStates:
    nothing, words = np.zeros(count, np.int64), np.full(count, "")
    return InitialStates({"pixels": observed(model, count)["pixels"].numpy()}, {}, nothing, words, words, nothing)


@pytest.fixture(params=WORLDS, ids=str)
def world(request: pytest.FixtureRequest) -> Any:
    build, act = WORLDS[request.param]
    return build(), act


# --- the protocol


def test_a_step_gives_a_state_and_a_prediction_of_every_row(world: Any) -> None:
    model, act = world
    state = model.encode(observed(model, 6))
    after, told = model.step(state, act(6), torch.rand(6, model.noise_dim))
    assert after.keys() == state.keys() and all(after[name].shape == state[name].shape for name in state)
    assert model.embedding(after).shape == (6, model.embedding_dim)
    for value in (told.reward, told.terminated):
        assert value.shape == (6,) and value.isfinite().all()
    assert ((0 <= told.terminated) & (told.terminated <= 1)).all()
    decoded = model.decode(after)
    assert model.spec.observation.contains({name: part[2].numpy() for name, part in decoded.items()})


def test_a_row_is_the_same_in_any_company(world: Any) -> None:
    model, act = world
    seen, action, noise = observed(model, 7), act(7), torch.rand(7, model.noise_dim)
    together, told = model.step(model.encode(seen), action, noise)
    alone, told_alone = model.step(model.encode({k: v[3:4] for k, v in seen.items()}), action[3:4], noise[3:4])
    for name in together:
        torch.testing.assert_close(together[name][3:4], alone[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(told.reward[3:4], told_alone.reward, rtol=1e-4, atol=1e-5)


def test_states_and_predictions_stay_in_single_precision(world: Any) -> None:
    model, act = world
    state = model.encode(observed(model, 2))
    with torch.autocast("cpu", torch.bfloat16):
        after, told = model.step(state, act(2), torch.rand(2, model.noise_dim))
    assert {part.dtype for part in (*after.values(), told.reward, told.terminated)} == {torch.float32}


def test_memory_comes_from_what_was_before(world: Any) -> None:
    model, act = world
    seen, action = observed(model, 2), act(2)
    first = model.encode(seen)
    assert model.has_memory and not first["hidden"].any() and not first["cell"].any()
    after, _ = model.step(first, action)
    second = model.encode(seen, after)
    assert torch.equal(second["hidden"], after["hidden"]) and torch.equal(second["code"], first["code"])
    assert not torch.equal(model.step(second, action)[0]["code"], model.step(first, action)[0]["code"])
    shown = {"embedding": model.embedding(second), "hidden": second["hidden"], "cell": second["cell"]}
    assert all(torch.equal(part, second[name]) for name, part in model.restore(shown).items())


def test_one_step_is_that_of_the_whole_sequence(world: Any) -> None:
    model, act = world
    codes, actions = torch.randn(3, 5, 4), torch.stack([act(3) for _ in range(5)], 1)
    whole, _ = model.rnn.lstm(torch.cat([codes, model.normalized(actions)], -1))
    state = model.start(codes[:, 0])
    for k in range(5):
        state = model.step(state | {"code": codes[:, k]}, actions[:, k])[0]
        torch.testing.assert_close(state["hidden"], whole[:, k], rtol=1e-4, atol=1e-5)


def test_a_saved_model_is_the_same_model(world: Any, tmp_path: Any) -> None:
    model, act = world
    checkpoint.save(model, tmp_path, "# Card\n")
    loaded, seen, action = checkpoint.load(tmp_path), observed(model, 3), act(3)
    assert loaded.spec == model.spec and loaded.config == model.config
    assert torch.equal(
        loaded.step(loaded.encode(seen), action)[0]["code"], model.step(model.encode(seen), action)[0]["code"]
    )


def test_sizes_of_the_paper() -> None:
    channels = PRESETS["paper"]["channels"]
    assert sum(p.numel() for p in VAE(32, channels).parameters()) == 4_348_547  # CarRacing
    assert sum(p.numel() for p in VAE(64, channels).parameters()) == 4_446_915  # Doom
    carracing = MDNRNN(32, 3, 256, 5)
    ours = 4 * 256 + 2 * 257 + 32  # a second bias of torch's LSTM; reward and end; what is kept of a code
    assert sum(p.numel() for p in carracing.parameters()) - ours == 422_368


@pytest.mark.parametrize("wrong", [{"latent": 0}, {"memory": 0}, {"mixtures": 0}, {"channels": (1, 2, 3, 0)}])
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made(**wrong)


@pytest.mark.parametrize("parts", [("state",), ("pixels", "state"), ("pixels", "top")])
def test_anything_else_than_one_picture_is_refused(parts: tuple[str, ...]) -> None:
    known = {"state": spaces.Box(-1.0, 1.0, (3,)), "pixels": picture(8, 8), "top": picture(8, 8)}
    spec = WorldSpec("world", spaces.Dict({name: known[name] for name in parts}), spaces.Discrete(2))
    with pytest.raises(ValueError, match="world shows .*; accepted: one picture .*--part NAME"):
        VMCModel(VMCConfig(**SMALL), spec)


# --- mixtures and temperature


def mixture() -> Mixture:
    generator = torch.Generator().manual_seed(1)
    logit, mean, log_std = torch.randn(3, 2, 4, 3, generator=generator).unbind(0)
    return Mixture(logit, 3 * mean, 0.5 * log_std)


def test_the_likelihood_of_mixtures_is_scipys() -> None:
    one, code = mixture(), torch.tensor([[0.3, -1.0, 2.0, 9.0], [0.0, 0.1, -4.0, 1.0]])
    share, mean, std = (part.numpy() for part in (one.logit.softmax(-1), one.mean, one.log_std.exp()))
    expected = np.log((share * stats.norm.pdf(code[..., None].numpy(), mean, std)).sum(-1))
    np.testing.assert_allclose(one.log_likelihood(code).numpy(), expected, rtol=1e-4)


def test_at_temperature_1_codes_are_drawn_as_the_mixture_says() -> None:
    one, count = mixture(), 4000
    many = Mixture(*(part[0].expand(count, 4, 3) for part in one))
    drawn = many.draw(torch.rand(count, 8, generator=torch.Generator().manual_seed(2)))
    share, mean, std = (part[0].numpy() for part in (one.logit.softmax(-1), one.mean, one.log_std.exp()))
    for z in range(4):
        found = stats.kstest(
            drawn[:, z].numpy(), lambda x, z=z: (share[z] * stats.norm.cdf(x[:, None], mean[z], std[z])).sum(-1)
        )
        assert found.pvalue > 0.001


def test_towards_temperature_0_the_likeliest_mean_is_left(world: Any) -> None:
    model, act = world
    state, action, noise = model.encode(observed(model, 5)), act(5), torch.rand(5, model.noise_dim)
    likeliest = model.step(state, action)[0]["code"]
    assert torch.equal(model.step(state, action, noise, 0.0)[0]["code"], likeliest)
    assert torch.equal(model.step(state, action, None, 1.3)[0]["code"], likeliest)
    torch.testing.assert_close(model.step(state, action, noise, 1e-6)[0]["code"], likeliest, rtol=0, atol=0.02)
    assert (model.step(state, action, noise)[0]["code"] - likeliest).abs().max() > 0.1
    one, noise = mixture(), torch.rand(2, 8)
    best = one.logit.argmax(-1, keepdim=True)
    assert torch.equal(one.likeliest(), one.mean.gather(-1, best)[..., 0])


def test_a_higher_temperature_spreads_further() -> None:
    one, noise = mixture(), torch.rand(3000, 8, generator=torch.Generator().manual_seed(3))
    many = Mixture(*(part[0].expand(3000, 4, 3) for part in one))
    spread = [many.draw(noise, temperature).var(0).mean() for temperature in (0.1, 0.5, 1.0, 1.3)]
    assert spread == sorted(spread)
    extreme = torch.tensor([[0.0] * 8, [1 - 2**-24] * 8])
    assert one.draw(extreme).isfinite().all()


def test_ends_are_drawn_as_probable_as_they_are() -> None:
    model, count = made(), 4000
    state = {name: part.expand(count, -1) for name, part in model.encode(observed(model, 1)).items()}
    action, noise = torch.full((count,), 2), torch.rand(count, model.noise_dim)
    for shift in (-2.0, 0.0):
        model.end_shift.fill_(shift)
        probability = model.step(state, action)[1].terminated[0].item()
        drawn = model.step(state, action, noise)[1].terminated
        assert set(drawn.tolist()) <= {0.0, 1.0} and 0.01 < probability < 0.99
        assert stats.binomtest(int(drawn.sum()), count, probability).pvalue > 0.001
        cold = model.step(state, action, noise, 1e-3)[1].terminated
        assert (cold == float(probability >= 0.5)).all()


def test_a_world_without_ends_draws_none() -> None:
    model = made(terminates=False)
    assert model.noise_dim == 8
    told = model.step(model.encode(observed(model, 2)), torch.tensor([1, 3]), torch.rand(2, 8))[1]
    assert told.terminated is None


def test_calibrated_ends_are_as_many_as_came() -> None:
    logit, truth = torch.randn(500), (torch.rand(500) < 0.1).float()
    shifted = logit + vmc_stages.calibration(logit, truth)
    torch.testing.assert_close(shifted.sigmoid().sum(), truth.sum(), rtol=1e-4, atol=1e-4)


# --- in environments


def test_the_environment_ends_where_the_model_says_so() -> None:
    model = made()
    env = DreamEnv(world_model=model, initial_states=starts(model))
    for shift, ended in ((-50.0, False), (50.0, True)):
        model.end_shift.fill_(shift)
        env.reset(seed=0)
        *_, terminated, truncated, _ = env.step(2)
        assert terminated == ended and not truncated


def test_policies_see_the_code_and_the_memory_beside_it() -> None:
    model = made()
    model.end_shift.fill_(-50)
    dreams = DreamVectorEnv(3, world_model=model, initial_states=starts(model))
    seen, _ = dreams.reset(seed=1)
    assert {name: part.shape for name, part in seen.items()} == {"embedding": (3, 4), "hidden": (3, 6), "cell": (3, 6)}
    assert not seen["hidden"].any()
    seen, *_ = dreams.step(np.full(3, 2))
    assert dreams.observation_space.contains(seen) and seen["hidden"].any()
    single = DreamEnv(world_model=model, initial_states=starts(model))
    assert single.observation_space.contains(single.reset(seed=1)[0])
    np.testing.assert_allclose(single.step(2)[0]["embedding"], seen["embedding"][0], rtol=1e-4, atol=1e-5)


def test_controllers_of_vectors_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="world shows no vectors; accepted: 'embedding'"):
        ControllerConfig.of(made(), "world", obs_type="native")


def test_the_real_environment_shows_the_same_form() -> None:
    import gymnasium as gym

    class Real(gym.Env):
        observation_space, action_space = picture(20, 36), spaces.Discrete(3, start=1)

        def reset(self, **_: Any) -> Any:
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.observation_space.sample(), 1.0, False, False, {}

    env = WorldModelWrapper(Real(), made())
    seen, _ = env.reset()
    assert env.observation_space.contains(seen) and not seen["hidden"].any()
    assert env.step(2)[0]["hidden"].any()


# --- the fit


def squares(count: int = 8, seed: int = 0) -> EpisodeDataset:
    """A bright area that the action widens; an episode ends at the right border, and a step pays for it."""
    rng, episodes = np.random.default_rng(seed), []
    spec = WorldSpec("squares", spaces.Dict({"pixels": picture(64, 64)}), spaces.Discrete(2), horizon=30)
    for i in range(count):
        place, frames, actions = int(rng.integers(0, 5)), [], []
        while True:
            frame = np.full((64, 64, 3), 90, np.uint8)
            frame[:, : 8 * place + 8] = 220  # large, so that it is soon learned
            frames.append(frame)
            if place >= 7:
                break
            actions.append(int(rng.integers(2)))
            place += actions[-1]
        if not actions:
            continue
        episodes.append(
            Episode(
                observation={"pixels": np.stack(frames)},
                action=np.array(actions),
                reward=np.array(actions, np.float32),
                terminated=True,
                seed=i,
            )
        )
    return EpisodeDataset.stack(episodes, spec)


TINY: dict[str, Any] = {
    "picture_updates": 3,
    "updates": 4,
    "batch": 8,
    "windows": 4,
    "window": 12,
    "latent": 4,
    "memory": 8,
}


def test_free_bits_keep_the_numbers_of_a_code_alive() -> None:
    generator = torch.Generator().manual_seed(0)
    quarters = (255 * torch.rand(100, 2, 2, 1, generator=generator)).to(torch.uint8)
    pictures = quarters.repeat_interleave(32, 1).repeat_interleave(32, 2).expand(-1, -1, -1, 3)
    live = {}
    for free_nats in (0.0, 0.5):
        torch.manual_seed(0)
        vae, generator = VAE(6, (4, 6, 8, 8)), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
        for _ in range(100):
            frame = torch.randint(len(pictures), (16,), generator=generator)
            loss = vae.loss(pictures[frame], free_nats, 0.03, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        live[free_nats] = int((vae.encode(pictures).mean.var(0) > ALIVE).sum())
    assert live == {0.0: 0, 0.5: 6}


def test_a_fit_goes_on_where_it_was_killed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = squares()
    whole, found = fit(Arguments((), tmp_path / "whole", **TINY), data)
    args, calls = Arguments((), tmp_path / "parts", **TINY), []

    def killed(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return memory_loss(*given)

    memory_loss = vmc_stages.memory_loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(vmc_stages, "memory_loss", killed)
        fit(args, data, save_seconds=0.0)
    again, _ = fit(args, data)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    with pytest.raises(ValueError, match="updates"):
        fit(replace(args, updates=5), data)
    assert json.loads((tmp_path / "whole" / "metrics.json").read_text())["M"] == found["M"]
    assert (tmp_path / "whole" / vmc_fit.STRIPS).is_file()
    env = DreamEnv(world_model=str(tmp_path / "whole"))
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_ends_and_rewards_are_learned(tmp_path: Any) -> None:
    data = squares(40)
    sizes = TINY | {"picture_updates": 100, "updates": 80, "memory": 32, "windows": 16}
    _, found = fit(
        Arguments((), tmp_path, **sizes, picture_rate=2e-3, picture_weight=10.0, rare_weight=1.0, learning_rate=1e-2),
        data,
    )
    assert found["V"]["reconstruction"] < 0.85 * found["V"]["median_picture"] and found["V"]["live"] == 4
    assert found["M"]["likelihood"]["M"] < found["M"]["likelihood"]["normal"] - 0.3
    assert found["M"]["ends"]["auc"] > 0.9 and found["reward_error"]["rms"] < 0.5 * found["reward_error"]["std"]


def test_codes_are_drawn_where_their_distributions_are() -> None:
    far = Gaussian(torch.zeros(2, 3, device="meta"), torch.zeros(2, 3, device="meta"))
    assert far.draw().device.type == far.draw(torch.Generator()).device.type == "meta"

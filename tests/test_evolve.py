"""Evolution: a strategy that goes on exactly, a population in one batch of dreams, and what comes of it."""

import json
import sys
import time
from dataclasses import replace
from itertools import product

import exact_cartpole
import gymnasium as gym
import numpy as np
import pytest
import torch

from dream_env.agents.eval.any_world import play_real
from dream_env.agents.evolve import command as evolving
from dream_env.agents.evolve import start
from dream_env.agents.evolve.arguments import Arguments
from dream_env.agents.evolve.command import evolve
from dream_env.agents.evolve.dreams import DreamPopulation
from dream_env.agents.evolve.strategy import Strategy
from dream_env.agents.policies import registry
from dream_env.agents.policies.controller import Controller, ControllerConfig
from dream_env.agents.run.cli import command
from dream_env.dream_config import DreamConfig
from dream_env.engine import DreamEngine
from dream_env.world_models import checkpoint

SMALL = {
    "population": 8,
    "rollouts": 3,
    "max_steps": 60,
    "validate_every": 2,
    "validation_dreams": 64,
    "episodes": 0,
    "workers": 1,
}


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return exact_cartpole.save(tmp_path_factory.mktemp("exact"))


@pytest.fixture
def args(cartpole, tmp_path):
    return Arguments(tmp_path / "run", world_model=cartpole, generations=4, sigma=0.3, **SMALL)


def population(world_model, **options):
    """Returns a population and a controller, in that order."""
    known = {"max_steps": 60}
    limits = {name: options.pop(name, value) for name, value in known.items()} | {
        name: options.pop(name) for name in ("antithetic",) if name in options
    }
    engine = DreamEngine(DreamConfig(world_model=world_model, **options))
    return DreamPopulation(engine, **limits), Controller(ControllerConfig.of(engine.model, world_model))


def several(controller, count=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, controller.weights.numel()))


# --- the strategy


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_strategy_goes_on_exactly_from_the_returns(diagonal):
    def ran(strategy, generations):
        for _ in range(generations):
            asked = strategy.ask()
            strategy.tell(-np.square(asked - 1).sum(1))
        return strategy

    whole = ran(Strategy(np.zeros(5), 0.3, 8, seed=3, diagonal=diagonal), 12)
    half = ran(Strategy(np.zeros(5), 0.3, 8, seed=3, diagonal=diagonal), 5)
    again = ran(Strategy(np.zeros(5), 0.3, 8, seed=3, diagonal=diagonal, returns=half.returns), 7)
    assert np.array_equal(whole.mean, again.mean) and whole.sigma == again.sigma
    assert np.array_equal(whole.ask(), again.ask()) and whole.generation == again.generation == 12


def test_a_strategy_finds_what_pays_most():
    strategy = Strategy(np.zeros(4), 0.5, 12)
    for _ in range(60):
        strategy.tell(-np.square(strategy.ask() - [1, -2, 0.5, 3]).sum(1))
    assert strategy.mean == pytest.approx([1, -2, 0.5, 3], abs=0.05)


def test_a_strategy_leaves_numpys_generator_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    Strategy(np.zeros(3), 0.1, 4).ask()
    assert np.random.random() == expected


def test_returns_that_are_no_numbers_are_refused():
    strategy = Strategy(np.zeros(3), 0.1, 4)
    strategy.ask()
    with pytest.raises(ValueError, match="nan"):
        strategy.tell(np.array([0, np.nan, 1, 2]))


# --- the population


def test_all_candidates_meet_the_same_starts_and_noise(cartpole):
    dreams, controller = population(cartpole)
    one = several(controller, 1)
    paid = dreams.returns(controller, one.repeat(5, 0), 7, (0, 1))
    assert (paid == paid[0]).all() and len(set(paid[0])) > 1


@pytest.mark.parametrize("world", ["cartpole", "toy"])
def test_a_population_is_paid_as_each_alone(world, cartpole, toy_folder):
    dreams, controller = population(cartpole if world == "cartpole" else toy_folder)
    many = several(controller)
    together = dreams.returns(controller, many, 5, (0, 1))
    alone = np.concatenate([dreams.returns(controller, each[None], 5, (0, 1)) for each in many])
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert len(np.unique(together)) > 5
    if world == "cartpole":  # some fall soon, and are left out of the batch
        assert dreams.steps < 2 * 60 * 6 * 5 and together.min() < 20


def test_a_dream_pays_what_the_engine_does(cartpole):
    dreams, controller = population(cartpole, temperature=0.0)
    weights = -several(controller, 1, seed=1)
    engine, total = dreams.engine, 0.0
    rows = np.array([0])
    dreams._chances = np.eye(1, len(dreams._chances))[0]  # all dreams begin in the first initial state
    carry, controller.weights[:] = engine.begin(rows), torch.from_numpy(weights[0])
    for _ in range(60):
        action = controller.act({"embedding": carry["code"].numpy()})
        carry, told = engine.advance(carry, torch.from_numpy(action))
        total += float(told["reward"])
        if told["terminated"]:
            break
    assert 5 < total < 60
    assert dreams.returns(controller, weights, 3, (0,)).tolist() == [[total] * 3]


def test_other_seeds_are_other_dreams(cartpole):
    dreams, controller = population(cartpole)
    many = several(controller, 2)
    paid = [dreams.returns(controller, many, 9, seed) for seed in ((0, 1), (0, 1), (0, 2))]
    assert np.array_equal(paid[0], paid[1]) and not np.array_equal(paid[0], paid[2])


def test_antithetic_noise_is_mirrored(cartpole):
    dreams, _ = population(cartpole, antithetic=True)
    noise = dreams._noise(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise[2:], 1 - noise[:2])
    assert dreams._noise(5, torch.Generator()).shape == (5, 1) and noise.max() < 1


def test_success_pays_once_at_the_end(toy_folder):
    dreams, controller = population(toy_folder, reward="success")
    paid = dreams.returns(controller, 1e-4 * several(controller, 8), 24, (0, 1))
    assert set(np.unique(paid)) == {0.0, 1.0}


def test_dreams_without_pictures_pay_the_same_and_are_faster(monkeypatch):
    dreams, controller = population("state_grounded", task="reach", reward="metric")
    many = 0.3 * several(controller)
    steps, times = [], []
    for few in (True, False):
        if not few:
            monkeypatch.setattr(DreamPopulation, "_needs_no_picture", lambda *_: False)
        began = time.process_time()
        steps.append(dreams.returns(controller, many, 4, (0, 1)))
        times.append(time.process_time() - began)
    np.testing.assert_allclose(*steps, rtol=1e-4)
    assert times[0] < times[1]


def test_dreams_paid_by_what_is_seen_need_their_pictures():
    for options, needs_none in (({"reward": "metric"}, True), ({}, False)):
        dreams, controller = population("state_grounded", task="reach", **options)
        assert dreams._needs_no_picture(controller) == needs_none
    everything = Controller(ControllerConfig.of(dreams.engine.model, "state_grounded", ("embedding",)))
    assert not population("state_grounded", reward="metric")[0]._needs_no_picture(everything)


# --- the command


def test_what_evolves_in_an_exact_dream_balances_the_real_pole(args):
    evolve(replace(args, generations=12, max_steps=200, rollouts=6))
    assert np.mean(play_real(str(args.out), None, args.world_model, 10, 100_000).returns) > 150
    assert registry.load(args.out).config.world_model == args.world_model


@pytest.mark.parametrize("components", [0, 3])
def test_a_killed_run_ends_as_one_without_a_pause(args, tmp_path, monkeypatch, components):
    args = replace(args, components=components)
    whole = evolve(args)
    again = replace(args, out=tmp_path / "again")
    saved = evolving.Evolution._save

    def killed(run):
        saved(run)
        if run.strategy.generation == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evolving.Evolution, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            evolve(again)
    assert whole["dream"] == evolve(again)["dream"]
    one, other = (np.load(out / evolving.STATE) for out in (args.out, again.out))
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one.files)
    assert (args.out / "model.safetensors").read_bytes() == (again.out / "model.safetensors").read_bytes()


def test_weights_that_make_no_difference_stay_small(args, tmp_path):
    sizes = []
    for decay in (0.0, 100.0):
        run = replace(args, out=tmp_path / str(decay), weight_decay=decay, generations=12, max_steps=2)  # nothing to do
        evolve(run)
        sizes.append(np.abs(np.load(run.out / evolving.STATE)["mean"]).mean())
    assert sizes[1] < 0.5 * sizes[0]


def test_more_generations_evolve_on_and_other_settings_are_refused(args):
    evolve(replace(args, generations=2))
    assert evolve(args)["generations"] == 4
    with pytest.raises(ValueError, match="sigma"):
        evolve(replace(args, sigma=0.5))


def test_the_best_in_validation_is_kept(args):
    evolve(args)
    state = np.load(args.out / evolving.STATE)
    curve = state["curves"][:, 3]
    assert np.isfinite(curve).sum() == 2 and state["best_value"] == np.nanmax(curve)
    weights = registry.load(args.out).weights.numpy()
    np.testing.assert_array_equal(weights, state["best"].astype(np.float32))


def test_evolution_begins_with_what_a_policy_does(args, tmp_path, cartpole):
    model = checkpoint.load(cartpole)
    steady = Controller(ControllerConfig.of(model, cartpole))
    steady.weights.copy_(torch.tensor([0.0, 0, 0, 0, 0.2, 0.5, 8, 3, 0, 0]))  # pushes to where the pole leans
    registry.save(steady, tmp_path / "steady", "For tests.")
    run = evolving.Evolution(replace(args, init=str(tmp_path / "steady")))
    none = evolving.Evolution(replace(args, out=tmp_path / "none"))
    paid = [each.dreams.returns(each.controller, each.start[None], 32, (9,)).mean() for each in (run, none)]
    assert paid[0] > 55 > 15 > paid[1]


def test_evolution_in_the_real_environment(args):
    summary = evolve(replace(args, world="real", generations=2, population=4, rollouts=2))
    assert summary["generations"] == 2 and (args.out / "model.safetensors").is_file()


def test_inputs_are_measured_in_the_world_to_evolve_in(args, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "EPISODES", 2)
    real = evolving.Evolution(replace(args, world="real", components=2, out=tmp_path / "real", max_steps=5))
    seen = evolving.RealPopulation(real.evaluator.world, 1).visited(2, (0, start.MEASURING))
    torch.testing.assert_close(real.controller.center, seen.mean(0))
    template = registry.load(real.evaluator.world.template)
    torch.testing.assert_close(template.center, real.controller.center)
    signal = real.controller.signal(seen)
    torch.testing.assert_close(signal.square().mean(0), torch.ones(2), rtol=1e-3, atol=1e-3)
    dreamt = evolving.Evolution(replace(args, components=2))
    assert not torch.equal(dreamt.controller.center, real.controller.center)


def test_the_command_reports_both_worlds(args):
    words = ["--world-model", args.world_model, "--out", str(args.out), "--episodes", "2", "--generations", "1"]
    command(
        "evolve",
        [*words, "--population", "4", "--rollouts", "2", "--max-steps", "20", "--temperature", "0.5", "--workers", "1"],
    )
    rows = json.loads((args.out / "evaluation" / "results.json").read_text())["rows"]
    played = {(row["policy"], row["world"]) for row in rows}
    assert played == set(product(("best", "mean"), ("real", "dream")))
    assert list((args.out / "tensorboard").iterdir())


def test_a_finished_run_prints_its_report_at_once(args, monkeypatch, capsys):
    words = ["--world-model", args.world_model, "--out", str(args.out), "--episodes", "2", "--generations", "1"]
    words += ["--population", "4", "--rollouts", "2", "--max-steps", "20", "--workers", "1"]
    command("evolve", words)
    first = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(evolving, "Evolution", None)  # nothing is measured again
        patch.setattr("dream_env.agents.evaluate.command.main", None)
        command("evolve", words)
    assert capsys.readouterr().out == first
    command("evolve", [*words, "--episodes", "3"])
    assert len((args.out / "evaluation" / "episodes.jsonl").read_text().splitlines()) == 3 * 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--world-model", "/nowhere"], "/nowhere"),
        (["--inputs", "wings"], "wings.*accepted"),
        (["--task", "fly"], "fly.*accepted"),
        (["--population", "1"], "population=1"),
        (["--init", "/nowhere"], "/nowhere"),
        (["--init", "default"], "trained in one of NicoLReal-v0; accepted"),
        (["--reward", "success"], "predicts no success; accepted: 'environment'"),
        (["--workers", "0"], "workers=0; accepted"),
    ],
)
def test_what_is_refused_ends_in_one_line(words, said, cartpole, tmp_path):
    given = words if "--world-model" in words else ["--world-model", cartpole, *words]
    with pytest.raises(SystemExit, match=said) as end:
        command("evolve", ["--out", str(tmp_path / "run"), *given])
    assert "\n" not in str(end.value)


def test_without_cma_it_is_told_how_to_get_it(cartpole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(SystemExit, match=r"pip install.*evolve"):
        command("evolve", ["--out", str(tmp_path / "run"), "--world-model", cartpole])


def test_the_exact_world_model_is_exact():
    env, model = gym.make("CartPole-v1"), exact_cartpole.ExactCartPole()
    obs, _ = env.reset(seed=0)
    state = model.encode({"state": torch.from_numpy(obs)[None]})
    for action in (1, 0, 0, 1, 1, 1):
        obs, *_ = env.step(action)
        state, _ = model.step(state, torch.tensor([action]))
        np.testing.assert_allclose(state["code"][0], obs, atol=1e-5)

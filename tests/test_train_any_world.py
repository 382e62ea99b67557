"""Practice in worlds that are no robot's: learners of stable-baselines3, saved and evaluated without a pickle."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy

from dream_env.agents.data.behaviors import Job, World, record
from dream_env.agents.eval import any_world
from dream_env.agents.fit.dynamics.command import Arguments as FitArguments
from dream_env.agents.fit.dynamics.command import fit
from dream_env.agents.policies import registry
from dream_env.agents.policies.sb3 import SB3Config, SB3Policy
from dream_env.agents.run.cli import command
from dream_env.agents.run.worlds import make_real
from dream_env.agents.train import command as train_command
from dream_env.agents.train.arguments import Arguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env, make_model, prepare
from dream_env.data.episodes import EpisodeDataset
from dream_env.spec import WorldSpec, observe


class CountsFromOne(gym.ActionWrapper):
    """CartPole-v1 whose actions are 1 and 2."""

    def __init__(self):
        super().__init__(gym.make("CartPole-v1", max_episode_steps=40))
        self.action_space = gym.spaces.Discrete(2, start=1)

    def action(self, action):
        return action - 1


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Folders of small world models of Pendulum-v1 and CartPole-v1, hardly fitted."""
    found = {}
    for name in ("Pendulum-v1", "CartPole-v1", "CountsFromOne-v1"):
        env = CountsFromOne() if name == "CountsFromOne-v1" else gym.make(name, max_episode_steps=40)
        spec = WorldSpec.of_env(env)
        episodes = [record(World(env, spec), Job(i, "random", i, "")) for i in range(8)]
        out = tmp_path_factory.mktemp(name)
        sizes = {"updates": 3, "picture_updates": 2, "width": 16, "members": 2, "batch": 4, "latent": 4, "threads": 1}
        fit(FitArguments(data=(), out=out, **sizes), EpisodeDataset.stack(episodes, spec))
        found[name] = str(out)
    return found


@pytest.fixture
def args(worlds, tmp_path):
    return Arguments(
        out=tmp_path / "run",
        world_model=worlds["Pendulum-v1"],
        init="none",
        algo="sac",
        steps=60,
        validate_every=30,
        validation_episodes=2,
    )


def real(args, obs_type="native"):
    return make_real(args.env, args.world_model, obs_type=obs_type)


@pytest.mark.parametrize(("algo", "steps"), [("sac", 700), ("td3", 700), ("ppo", 3_000)])
def test_a_run_that_diverges_names_the_rate_and_saves_nothing_of_it(args, algo, steps):
    asked = replace(args, algo=algo, steps=steps, rate=1e9, validate_every=steps)
    with pytest.raises(ValueError, match=r"^rate=1e\+09: training diverged after .* steps; accepted: a smaller --rate"):
        train(asked, make_env(asked), None, progress=False)
    assert not (args.out / "config.json").exists()
    kept = safetensors.numpy.load_file(args.out / "checkpoint.safetensors")
    assert all(np.isfinite(each).all() for name, each in kept.items() if name.startswith("policy/"))


def test_a_fit_that_diverges_names_the_rate_and_saves_nothing_of_it(worlds, tmp_path):
    env = gym.make("Pendulum-v1", max_episode_steps=40)
    spec = WorldSpec.of_env(env)
    data = EpisodeDataset.stack([record(World(env, spec), Job(i, "random", i, "")) for i in range(4)], spec)
    sizes = {"updates": 30, "width": 16, "members": 2, "batch": 4, "latent": 4, "threads": 1}
    with pytest.raises(
        ValueError, match=r"^learning_rate=1e\+30: the loss of .* is (nan|inf) after .* updates; accepted"
    ):
        fit(FitArguments(data=(), out=tmp_path, learning_rate=1e30, **sizes), data)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_validation_is_paid_by_the_named_reward(args, monkeypatch):
    used = []
    monkeypatch.setattr(train_command, "train", lambda args, env, physics: used.append(physics.reward))
    train_command.main(replace(args, obs_type="embedding"))
    monkeypatch.setattr(train_command, "make_env", lambda args: None)  # this world model predicts no success
    train_command.main(replace(args, reward="success"))
    assert used == ["environment", "success"]


@pytest.mark.parametrize(
    "env, algo",
    [("Pendulum-v1", algo) for algo in ("ppo", "sac", "td3", "a2c", "ddpg")]
    + [("CartPole-v1", algo) for algo in ("ppo", "a2c", "dqn")],
)
@pytest.mark.parametrize("obs_type", ["native", "embedding"])
def test_any_algorithm_practices_in_the_dream_and_acts_in_the_real_world(worlds, args, env, algo, obs_type):
    args = replace(args, algo=algo, world_model=worlds[env], obs_type=obs_type)
    physics = real(args, obs_type)
    policy = train(args, make_env(args), physics, progress=False)
    saved = registry.load(args.out)
    assert saved.config == policy.config and saved.config.obs_type == obs_type
    obs, _ = physics.reset(seed=0)
    batch = {name: part[None] for name, part in observe(obs).items()}
    action = saved.act(batch)
    np.testing.assert_allclose(action, policy.act(batch), atol=1e-6)
    assert physics.action_space.contains(action[0]) and saved.inputs == tuple(observe(obs))
    assert {path.suffix for path in args.out.iterdir() if path.is_file()} <= {".json", ".safetensors", ".md", ".zip"}
    history = json.loads((args.out / "validation.json").read_text())
    assert all(np.isfinite(entry["return"]) for entry in history) and "success" not in history[0]


def test_discrete_actions_may_count_from_another_number_than_zero(worlds, args):
    args = replace(args, world_model=worlds["CountsFromOne-v1"], algo="dqn", validation_episodes=0)
    env = prepare(args, make_env(args))
    assert env.action_space == gym.spaces.Discrete(2)
    env.reset()
    env.step(np.zeros(env.num_envs, int))  # the dream takes 1 and 2
    train(args, make_env(args), None, progress=False)
    observation = {"state": np.random.default_rng(0).normal(0, 9, (200, 4)).astype(np.float32)}
    assert {*registry.load(args.out).act(observation)} <= {1, 2}


def test_learners_train_in_the_real_world_too(args):
    train(replace(args, world="real", n_envs=1), make_env(replace(args, world="real", n_envs=1)), None, progress=False)
    assert registry.load(args.out).config.algorithm == "SAC"


def test_evaluation_tells_returns_in_both_worlds(args, tmp_path, capsys):
    train(args, make_env(args), None, progress=False)
    words = ["--policy", str(args.out), "random", "--world-model", args.world_model, "--env", "Pendulum-v1"]
    command("evaluate", [*words, "--episodes", "3", "--workers", "1", "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["policy"], row["world"]) for row in rows] == [
        (policy, world) for policy in ("run", "random") for world in ("real", "dream")
    ]
    assert all(row["low"] <= row["return"] <= row["high"] <= 0 for row in rows)
    shown = capsys.readouterr().out
    assert "| run " in shown and "dreams end after 40 steps" in shown and "real episodes last up to 200" in shown
    again = any_world.play_real("random", None, args.world_model, 3, 100_000)
    assert np.mean(again.returns) == pytest.approx(rows[2]["return"])


def test_what_does_not_fit_is_named(worlds, args):
    with pytest.raises(ValueError, match="init='default' is a clone of NICOL.*accepted: --init none"):
        train(replace(args, init="default"), None, None)
    choices = replace(args, world_model=worlds["CartPole-v1"])
    with pytest.raises(ValueError, match="algo='sac'"):
        make_model(choices, make_env(choices))
    with pytest.raises(ValueError, match="task='lift' is not known"):
        train(replace(args, task="lift"), None, None)
    with pytest.raises(ValueError, match="env='Nowhere-v0' cannot be made"):
        real(replace(args, env="Nowhere-v0"))
    with pytest.raises(ValueError, match="accepted: ppo or sac with a clone"):
        Arguments(args.out, algo="td3")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"algorithm": "os.system"}, "algorithm='os.system'; accepted: A2C"),
        ({"policy": "Evil"}, "policy='Evil'; accepted: MlpPolicy"),
        ({"obs_type": "x"}, "obs_type='x'"),
        ({"observation_space": {"type": "Box", "shape": [10**9], "dtype": "float32", "low": 0, "high": 1}}, "1e8"),
        ({"policy_kwargs": {"net_arch": [8]}}, "does not fit config.json"),
    ],
)
def test_a_policy_is_rebuilt_from_an_allow_list(args, change, message):
    policy = SB3Policy.of(make_model(args, make_env(args)), "native", args.world_model)
    registry.save(policy, args.out, "card")
    file = args.out / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        registry.load(args.out)


def test_only_what_json_holds_is_kept(args):
    model = make_model(args, make_env(args))
    model.policy_kwargs["activation_fn"] = type
    with pytest.raises(ValueError, match="accepted: numbers, texts, lists and dicts"):
        SB3Config.of(model, "native", args.world_model)


def test_a_policy_of_embeddings_refuses_another_encoder(worlds, args, tmp_path):
    run = replace(args, obs_type="embedding")
    train(run, make_env(run), None, progress=False)
    config = registry.load(run.out).config
    assert config.encoder_id
    config.check_encoder(run.world_model)
    with pytest.raises(ValueError, match="its encoder .* is not the one"):
        config.check_encoder(worlds["CartPole-v1"])
    with pytest.raises(ValueError, match="init=.* is a policy of kind 'sb3'; accepted: a clone of `agents.clone`"):
        make_env(replace(args, init=str(run.out), algo="ppo", out=tmp_path / "on"))

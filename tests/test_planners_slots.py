"""Plans and foresight where an embedding is too short to tell a state: the model without labels, in both worlds."""

import json

import numpy as np
import pytest
import torch
from test_planners import GOAL, Cart, Push

from dream_env.agents import planners
from dream_env.agents.eval import any_world
from dream_env.agents.foresee import command as foresee
from dream_env.agents.foresee.arguments import Arguments as Foresee
from dream_env.agents.nicol.rollouts import env_kwargs
from dream_env.agents.plan import command as plan
from dream_env.agents.plan.arguments import Arguments as Plan
from dream_env.agents.planners import foresight, objectives, states
from dream_env.agents.planners.foresight import Foresight, ForesightConfig
from dream_env.agents.planners.planner import Planner, PlannerConfig, needed
from dream_env.agents.policies import registry
from dream_env.agents.policies.transformer_vla import TransformerVLA, TransformerVLAConfig
from dream_env.dream import DreamVectorEnv
from dream_env.nicol import real
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.world_models import checkpoint

WORLD = "unlabelled"
QUICK = {"solver": "cem", "options": {"samples": 32, "iterations": 3, "elites": 6}, "world_model": WORLD}


@pytest.fixture(scope="module")
def model():
    return checkpoint.load(WORLD)


@pytest.fixture(scope="module")
def policy(tmp_path_factory, model):
    """A VLA that has learned nothing, with a flow for a head; and its folder."""
    torch.manual_seed(0)
    sizes = {"tokens": 1, "channels": model.embedding_dim, "vectors": {"proprio": 4}, "language": "words"}
    small = {"width": 16, "latents": 2, "heads": 2, "hidden": 16, "depth": 1, "chunk": 3, "execute": 2, "goal": True}
    bounds = {"action_low": (-1.0,) * 4, "action_high": (1.0,) * 4}
    made = TransformerVLA(TransformerVLAConfig(**sizes, **small, **bounds, head="flow", world_model=WORLD)).eval()
    folder = tmp_path_factory.mktemp("flow") / "policy"
    registry.save(made, folder, "")
    return made, str(folder)


def batch(obs):
    return {name: part[None] for name, part in obs.items()}


def test_an_observation_tells_the_state_that_both_worlds_go_on_from(model):
    dream = NicoLDreamEnv("push", world_model=WORLD, obs_type="state")
    physics = real.make("push", world_model=WORLD, obs_type="state")
    for env in (dream, physics):
        obs, _ = env.reset(seed=3)
        obs, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(obs)
        found = states.state_of(model, states.seen(model, batch(obs)))
        own = env.state if env is physics else env.dreams.engine.state(env.dreams.carry)
        told = {*found} - {"words", "goal"}  # a goal, which success is told by, is the environment's
        assert told == {*own} - {"words", "goal"}, "what the model goes on from, and the sentence"
        assert all(torch.equal(found[name], own[name]) for name in told)
        assert found["memory"].any(), "what the model remembers comes along"
        torch.testing.assert_close(model.embedding(found), torch.from_numpy(obs["embedding"][None]))
        goal = states.goal_of(model, states.seen(model, batch(obs)))
        torch.testing.assert_close(states.goal_embedding(model, goal), torch.from_numpy(obs["goal"][None]))
        env.close()


def test_without_the_state_it_is_told_where_it_is(model):
    obs, _ = NicoLDreamEnv("push", world_model=WORLD).reset(seed=3)
    with pytest.raises(ValueError, match="observation has no 'slots'; accepted: .*obs_type='state'"):
        Planner(PlannerConfig(**QUICK), model).act(batch(obs))


def test_a_plan_by_the_goal_picture_comes_nearer_in_both_worlds(model):
    planner = Planner(PlannerConfig(**QUICK, execute=2, path=1.0), model)
    dreams = DreamVectorEnv(4, world_model=WORLD, task="push", obs_type=planner.obs_type, temperature=0.0)
    obs, info = dreams.reset(seed=[200_000, 200_001, 200_002, 200_003])
    before = info["distance"].mean()
    planner.reset()
    for _ in range(10):
        obs, _, _, _, info = dreams.step(planner.act(obs))
    assert info["distance"].mean() < 0.4 * before
    dreams.close()
    physics = real.make("reach", world_model=WORLD, obs_type=planner.obs_type)
    obs, info = physics.reset(seed=200_000)
    before = info["distance"]
    planner.reset()
    for _ in range(12):
        obs, _, _, _, info = physics.step(planner.act(batch(obs))[0])
    assert info["distance"] < 0.3 * before
    physics.close()


def test_the_sentence_stays_where_distances_are_under_it(model):
    objective = objectives.Objective({"energy": 1.0})
    obs, _ = NicoLDreamEnv("push", world_model=WORLD, obs_type="state").reset(seed=3)
    state = states.state_of(model, states.seen(model, batch(obs)))
    assert "instruction" in needed(model, objective, state)
    grounded = checkpoint.load("state_grounded")
    assert "instruction" not in needed(grounded, objective, {"tokens": None, "instruction": None})


def test_a_policy_with_modes_proposes_and_is_kept_where_nothing_leads(model, policy):
    vla, _ = policy
    config = {"policy": policy[1], "world_model": WORLD, "candidates": 5, "draws": 2, "objective": {"energy": 1.0}}
    one = Foresight(ForesightConfig(**config, pick="worst"), model, vla)
    dream = NicoLDreamEnv("reach", world_model=WORLD, obs_type=one.obs_type)
    obs, _ = dream.reset(seed=1)
    noise = foresight.Noise([0])
    one.prior.variations(noise, one.box, 5, 8)  # which are drawn first
    proposed = one.prior.chunks(batch(obs), noise, one.box, 5, 8)
    assert proposed.shape == (1, 5, 8, 4)
    assert proposed[:, 0].isnan().all() and proposed[:, 1:, 3:].isnan().all() and not proposed[:, 1:, :3].isnan().any()
    done = []
    for _ in range(4):
        done.append(one.act(batch(obs))[0])
        obs, *_ = dream.step(done[-1])
    number = int(one.chosen[0][0])
    dream.reset(seed=1)
    if number:  # the first three actions are the chunk's; then the policy goes on
        np.testing.assert_allclose(done[:3], proposed[0, number, :3], atol=1e-5)
    kept = Foresight(ForesightConfig(**config, margin=1e6), model, vla)
    own = registry.load(policy[1])
    obs, _ = dream.reset(seed=1)
    for _ in range(6):  # also across the ends of chunks and choices
        action = kept.act(batch(obs))
        if kept.config.execute and len(kept._chosen) == kept.config.execute - 1:
            own.reset()
        np.testing.assert_allclose(action, own.act(batch(obs)), atol=1e-5)
        obs, *_ = dream.step(action[0])
    dream.close()


def test_chunks_take_the_place_of_actions_where_they_are_numbers():
    """Of a cart at rest, only the third proposal pushes to the goal; the policy itself pushes away."""

    class Modes(Push):
        has_modes = True
        noise_numbers = 4

        def propose(self, observation, count, noise=None):
            chunks = np.full((len(observation["embedding"]), count, 4, 1), self.action, np.float32)
            chunks[:, 2] = 0.35
            return chunks

    one = Foresight(
        ForesightConfig(objective={"energy": 1.0}, horizon=4, execute=4, candidates=4, draws=2), Cart(), Modes(-0.5)
    )
    seen = {"embedding": np.zeros((3, 2), np.float32), "goal": np.tile(np.float32([GOAL, 0]), (3, 1))}
    assert np.allclose(one.act(seen), 0.35) and one.chosen[0].tolist() == [2, 2, 2]


def test_commands_plan_and_foresee_with_it(tmp_path, policy):
    quick = {"task": "reach", "episodes": 1, "workers": 1, "world_model": WORLD}
    plan.main(Plan(solver="cem", samples=16, iterations=1, gif_episodes=1, out=tmp_path / "plan", **quick))
    file = str(tmp_path / "plan" / "planner.json")
    assert env_kwargs(file, WORLD)["obs_type"] == any_world.env_kwargs(file, WORLD)["obs_type"] == "state"
    assert (tmp_path / "plan" / "rollouts.gif").is_file()
    foresee.main(Foresee(policy[1], candidates=3, draws=1, out=tmp_path / "foresight", **quick))
    assert planners.load(tmp_path / "foresight" / "foresight.json").config.objective == {"energy": 1.0}
    rows = json.loads((tmp_path / "foresight" / "results.json").read_text())["rows"]
    assert {row["world"] for row in rows} == {"physics", "dream"} and len({row["policy"] for row in rows}) == 4
    with pytest.raises(ValueError, match="few.*another|encoder"):
        foresee.main(Foresee("few", out=tmp_path / "other", **quick))

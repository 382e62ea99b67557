"""The object state in place of the tokens: the same actions, less work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.agents.nicol import rollouts
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.critic import GoalTrunk
from dream_env.agents.nicol.object_state import ObjectStateEncoder, ObjectStateVecEnv
from dream_env.agents.nicol.vla import VLA, Trunk, VLAConfig
from dream_env.agents.policies.tensor_env import TensorVecEnv
from dream_env.agents.run.sb3_state import CHECKPOINT, load_algorithm_into
from dream_env.agents.train.arguments import Arguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import CLONES, make_env, make_model, prepare
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.tensors import TensorDreams


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoint of the toy world, a clone that reads, and one that looks."""
    root = tmp_path_factory.mktemp("folders")
    world = toy.save(root / "world")
    for name, config in (("reads", {"queries": 0, "reads": True, "sentences": 5}), ("looks", {"reads": True})):
        torch.manual_seed(0)
        vla = VLA(VLAConfig(world_model=world, **config))
        torch.nn.init.normal_(vla.trunk.known)
        policy.save(vla, root / name, "A clone for tests.")
    return world, str(root / "reads"), str(root / "looks")


def tensors(obs):
    """Returns an observation as torch has it."""
    return {key: torch.tensor(part) for key, part in obs.items()}


def test_acts_and_judges_as_from_tokens_through_ends_of_episodes(folders):
    world, clone, _ = folders
    plain, read = (DreamVecEnv(5, "all", world_model=world, max_episode_steps=3) for _ in range(2))
    read = ObjectStateVecEnv(read, clone)
    vla = policy.load(clone)
    critic = GoalTrunk(plain.observation_space, vla.config)
    critic.ground(vla.trunk)
    for env in (plain, read):
        env.seed(7)
    seen, told = plain.reset(), read.reset()
    rng = np.random.default_rng(0)
    for _ in range(7):
        pairs = [(seen, told)]
        actions = rng.uniform(-1, 1, (5, 4)).astype(np.float32)
        (seen, *rest), (told, *others) = plain.step(actions), read.step(actions)
        np.testing.assert_array_equal(rest[0], others[0])
        pairs += [
            tuple({key: part[None] for key, part in info["terminal_observation"].items()} for info in infos)
            for infos in zip(rest[2], others[2], strict=True)
            if "terminal_observation" in infos[0]
        ]
        for tokens, prepared in pairs:
            assert set(prepared) == set(read.observation_space.spaces) and "embedding" not in prepared
            words = policy.nearest_known(torch.tensor(tokens["instruction"]), vla.trunk.known)
            heard = tensors(tokens) | {"instruction": words}
            torch.testing.assert_close(vla(tensors(prepared)), vla(tensors(tokens)))
            torch.testing.assert_close(critic(tensors(prepared)), critic(heard))


def test_what_a_learner_holds_does_not_change_under_it(folders):
    env = ObjectStateVecEnv(DreamVecEnv(3, "all", world_model=folders[0], max_episode_steps=2), folders[1])
    held = [env.reset()]
    copies = [{key: part.copy() for key, part in held[0].items()}]
    for _ in range(5):
        held.append(env.step(np.ones((3, 4), np.float32))[0])
        copies.append({key: part.copy() for key, part in held[-1].items()})
    for obs, copy in zip(held, copies, strict=True):
        for key in obs:
            np.testing.assert_array_equal(obs[key], copy[key])


@pytest.mark.parametrize("algo", CLONES)
def test_both_algorithms_learn_from_object_states_what_acts_on_tokens(folders, tmp_path, algo, monkeypatch):
    monkeypatch.setenv("DREAM_ENV_TRUST", "1")
    world, clone, _ = folders
    args = Arguments(tmp_path / "run", algo=algo, init=clone, world_model=world, n_envs=8, steps=8 * EPISODE_STEPS * 2)
    args = replace(args, validation_episodes=0, critic_warmup=0)
    env = prepare(args, make_env(args))
    model = make_model(args, env)
    if hasattr(model, "learning_starts"):
        model.learning_starts, model.batch_size = 64, 16
    model.learn(args.steps)
    model.save(tmp_path / "model.zip")
    seen = DreamVecEnv(8, "all", world_model=world).reset()
    learned = rollouts.make_actor(str(tmp_path / "model.zip"), range(8))(seen)
    np.testing.assert_array_equal(learned, model.policy.vla().predict(seen)[0])
    assert np.abs(learned - policy.load(clone).predict(seen)[0]).max() > 1e-6


def test_training_reads_where_the_clone_does_not_look(folders, tmp_path):
    world, reads, looks = folders
    for clone, read in ((reads, True), (looks, False)):
        args = Arguments(tmp_path / str(read), init=clone, world_model=world, n_envs=8, steps=8 * EPISODE_STEPS)
        args = replace(args, validation_episodes=0)
        space = prepare(args, make_env(args)).observation_space
        assert ("object_state" in space.spaces, "embedding" in space.spaces) == (read, not read)
        vla = train(args, make_env(args), None, progress=False)
        assert vla.config == policy.load(clone).config


def test_what_learned_from_readings_is_played_in_physics(folders, tmp_path):
    world, clone, _ = folders
    args = Arguments(
        tmp_path / "run", init=clone, world_model=world, n_envs=8, steps=8 * EPISODE_STEPS, critic_warmup=0
    )
    args = replace(args, validation_episodes=0)
    vla = train(args, make_env(args), None, progress=False)
    agent = make_model(args, prepare(args, make_env(args)))
    load_algorithm_into(agent, args.out / CHECKPOINT)
    env = make_vec_env("NicoLReal-v0", env_kwargs={"world_model": world})
    read = ObjectStateVecEnv(env, clone)
    env.seed(3)
    seen = env.reset()
    env.seed(3)
    actions = agent.predict(read.reset(), deterministic=True)[0]
    np.testing.assert_allclose(actions, vla.predict(seen)[0], atol=1e-6)
    with pytest.raises(ValueError, match=r"observation lacks .*'object_state'.*ObjectStateVecEnv"):
        agent.predict(seen)
    for player, place in ((agent, read), (policy.load(args.out), env)):
        assert np.isfinite(evaluate_policy(player, place, n_eval_episodes=1)[0])


def test_refuses_what_has_nothing_to_read(folders):
    world, reads, looks = folders
    with pytest.raises(ValueError, match="reads tokens directly; accepted: queries=0"):
        ObjectStateVecEnv(DreamVecEnv(2, world_model=world), looks)
    read = ObjectStateVecEnv(DreamVecEnv(2, world_model=world), reads).observation_space
    with pytest.raises(ValueError, match="which queries=8 needs; accepted: a VLA with queries=0"):
        Trunk(read, policy.load(looks).config)
    with pytest.raises(ValueError, match="accepted: a Dict with embedding and goal"):
        ObjectStateVecEnv(make_vec_env("CartPole-v1", 2), reads)


def test_tensors_are_prepared_as_arrays_are(folders):
    world, clone, _ = folders
    vla = policy.load(clone)
    plain, dreams = (TensorDreams(5, world_model=world, task="all", max_episode_steps=3) for _ in range(2))
    env = TensorVecEnv(dreams, ObjectStateEncoder(vla, dreams.single_observation_space))
    env.seed(7)
    env.reset()
    seen, _ = plain.reset(seed=7)
    rng = torch.Generator().manual_seed(0)
    for _ in range(7):
        torch.testing.assert_close(vla(env.obs), vla(seen))
        action = torch.rand(5, 4, generator=rng)
        step, (seen, reward, _, cut, info) = env.move(action), plain.step(action)
        torch.testing.assert_close(step.reward, reward)
        assert torch.equal(step.done, cut) and (step.cut is None) == (not cut.any())
        if step.cut is not None:
            torch.testing.assert_close(vla(step.cut[0]), vla(info["final_obs"]))
    ended = env.take_episodes()
    assert len(ended) == 10 and {one["episode"]["l"] for one in ended} == {3} and not env.take_episodes()

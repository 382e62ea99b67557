"""Environments that are copied or pickled: each goes on alone, and exactly as the original would have."""

import copy
import pickle

import numpy as np
import pytest

from dream_env.nicol import real
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv

FORMS = [
    lambda folder: real.make("all", world_model=folder),
    lambda folder: real.make("push", world_model=folder, goal_env=True),
    lambda folder: NicoLDreamEnv("all", world_model=folder),
    lambda folder: NicoLDreamVectorEnv(3, "all", world_model=folder, goal_env=True),
]


def _flat(obs):
    return np.concatenate([np.ravel(obs[name]) for name in sorted(obs)])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
@pytest.mark.parametrize("make", FORMS, ids=["real", "real goal", "dream", "dreams goal"])
def test_a_copy_goes_on_as_the_original_would(toy_folder, make, again):
    env = make(toy_folder)
    env.reset(seed=3)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, *env.action_space.shape)).astype(np.float32)
    for action in actions[:3]:
        env.step(action)
    other, steps = again(env), []
    for action in actions[3:]:
        steps.append(other.step(action))
    other.close()
    for action, (obs, reward, *_) in zip(actions[3:], steps, strict=True):
        mine = env.step(action)
        np.testing.assert_array_equal(_flat(mine[0]), _flat(obs))
        np.testing.assert_array_equal(mine[1], reward)
    env.close()


def test_a_copy_before_the_first_reset_is_a_new_env(toy_folder):
    for make in FORMS:
        env = make(toy_folder)
        one, other = env.reset(seed=1)[0], pickle.loads(pickle.dumps(make(toy_folder))).reset(seed=1)[0]
        np.testing.assert_array_equal(_flat(one), _flat(other))
        env.close()


def test_a_state_goes_on_by_luck_in_a_vector_env_that_was_never_reset(toy_folder):
    first, fresh = (NicoLDreamVectorEnv(2, "lift", world_model=toy_folder) for _ in range(2))
    first.reset(seed=0)
    fresh.set_state(first.get_state())
    calm = NicoLDreamVectorEnv(2, "lift", world_model=toy_folder, temperature=0.0)
    calm.set_state(first.get_state())
    action = np.zeros((2, 4), np.float32)
    assert not np.array_equal(fresh.step(action)[0]["embedding"], calm.step(action)[0]["embedding"])
    for _ in range(24):
        fresh.step(action)

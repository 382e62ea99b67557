"""The vector form of `NicoLDream-v0` is the single one, many times; and both give the same every time."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from dreams import FORMS, assert_close, assert_same, run_to_end
from gymnasium.vector import AutoresetMode

import dream_env  # noqa: F401  registers the ids
from dream_env.nicol import constants
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv


def own(info):
    """Infos without what rl_zoo3 makes Gymnasium's TimeLimit add, once some test has imported it."""
    return {name: value for name, value in info.items() if not name.endswith("TimeLimit.truncated")}


def make(world_model, task="all", **kwargs):
    return NicoLDreamEnv(task, world_model=world_model, **kwargs)


# --- the vector env is the single env


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_vector_row_equals_single_env(model, form):
    count, seed = 6, 11
    envs = NicoLDreamVectorEnv(count, "all", world_model=model, **form)
    limit = constants.EPISODE_STEPS
    singles = [gym.wrappers.TimeLimit(make(model, **form), limit) for _ in range(count)]
    batch, batch_info = envs.reset(seed=seed)
    for i, env in enumerate(singles):
        obs, info = env.reset(seed=seed + i)
        assert_close(obs, {name: rows[i] for name, rows in batch.items()})
        assert_close(own(info), {name: batch_info[name][i] for name in own(info)})
    actions = np.random.default_rng(0).uniform(-1, 1, (60, count, 4)).astype(np.float32)
    for action in actions:
        batch, rewards, terminated, truncated, batch_info = envs.step(action)
        for i, env in enumerate(singles):
            obs, reward, done, cut, info = env.step(action[i])
            assert (done, cut) == (terminated[i], truncated[i])
            assert reward == pytest.approx(rewards[i], abs=1e-4)
            if cut:
                assert_close(obs, batch_info["final_obs"][i])
                final = batch_info["final_info"]
                assert_close(own(info), {name: final[name][i] for name in own(info)})
                obs, info = env.reset()
            assert_close(obs, {name: rows[i] for name, rows in batch.items()})
            assert_close(own(info), {name: batch_info[name][i] for name in own(info)})
            assert env.unwrapped.instruction == envs.instruction[i]


def test_episodes_that_end_apart_look_as_in_a_sync_vector_env(toy_folder):
    kwargs = {"world_model": toy_folder, "task": "all", "max_disagreement": 4.5}
    mode = AutoresetMode.SAME_STEP
    envs = NicoLDreamVectorEnv(4, **kwargs)
    singles = [lambda: gym.make("NicoLDream-v0", **kwargs)] * 4
    sync = gym.vector.SyncVectorEnv(singles, autoreset_mode=mode)
    assert_close(envs.reset(seed=0)[0], sync.reset(seed=0)[0])
    rng, counts = np.random.default_rng(0), set()
    for _ in range(60):
        action = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
        one, other = envs.step(action), sync.step(action)
        assert_close(one[0], other[0])
        for ours, theirs in zip(one[1:4], other[1:4], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        info, expected = one[4], other[4]
        counts.add(int(one[3].sum()))
        if one[3].any():
            assert_close(own(info.pop("final_info")), own(expected.pop("final_info")))
            ours, theirs = info.pop("final_obs"), expected.pop("final_obs")
            for i in range(4):
                assert (ours[i] is None) == (theirs[i] is None)
                assert ours[i] is None or assert_close(ours[i], theirs[i]) is None
        assert_close(own(info), own(expected))
    assert len(counts) > 1 and 1 in counts


def test_two_runs_are_identical(toy_folder):
    runs = []
    for _ in range(2):
        env = gym.make("NicoLDream-v0", task="all", starts="any", world_model=toy_folder)
        env.action_space.seed(3)
        trace = [env.reset(seed=5)[0]]
        for _ in range(50):
            obs, reward, _, cut, info = env.step(env.action_space.sample())
            trace += [obs, {"reward": reward, **info}]
            if cut:
                trace.append(env.reset()[0])
        runs.append(trace)
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_two_processes_are_identical(toy_folder):
    code = (
        "import sys, hashlib, numpy as np, toy\n"
        "from dream_env.nicol.dream import NicoLDreamVectorEnv\n"
        "envs = NicoLDreamVectorEnv(3, 'all', world_model=sys.argv[1], starts='any')\n"
        "trace, rng = [envs.reset(seed=9)[0]], np.random.default_rng(0)\n"
        "for _ in range(50):\n"
        "    obs, reward, *_ = envs.step(rng.uniform(-1, 1, (3, 4)))\n"
        "    trace += [obs, {'reward': reward}]\n"
        "data = b''.join(v.tobytes() for part in trace for v in part.values())\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, toy_folder]
    runs = [subprocess.run(command, env=env, capture_output=True, text=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65, runs[0].stderr


def test_next_step_mode_resets_in_a_step_of_its_own(toy_folder):
    mode = AutoresetMode.NEXT_STEP
    envs = NicoLDreamVectorEnv(2, world_model=toy_folder, max_episode_steps=3, autoreset_mode=mode)
    envs.reset(seed=0)
    flags, info = run_to_end(envs, 3)
    assert flags[:, 0].tolist() == [False, False, True] and "final_obs" not in info
    single = make(toy_folder, "reach")
    single.reset(seed=0)
    for _ in range(3):  # noise comes from the same generator
        single.step(np.zeros(4, np.float32))
    expected, _ = single.reset()
    obs, reward, _, cut, _ = envs.step(np.ones((2, 4), np.float32))
    assert_close(expected, {name: rows[0] for name, rows in obs.items()})
    assert reward.tolist() == [0, 0] and not cut.any()
    assert run_to_end(envs, 3)[0][:, 0].tolist() == [False, False, True]


def test_disabled_mode_waits_for_a_masked_reset(toy_folder):
    mode = AutoresetMode.DISABLED
    envs = NicoLDreamVectorEnv(3, world_model=toy_folder, max_episode_steps=2, autoreset_mode=mode)
    envs.reset(seed=0)
    assert run_to_end(envs, 2)[0][-1].all()
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros((3, 4), np.float32))
    before = envs.get_state()
    _, info = envs.reset(options={"reset_mask": np.array([True, False, True])})
    assert info["_is_success"].tolist() == [True, False, True]
    after = envs.get_state()
    np.testing.assert_array_equal(before["tokens"][1], after["tokens"][1])
    assert after["_steps"].tolist() == [0, 2, 0]

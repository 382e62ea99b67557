"""Dreams under Stable-Baselines3 and rl_zoo3."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

import dream_env  # noqa: F401  registers the ids
from dream_env.adapters.sb3 import BatchedDream, DreamVecEnv
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.language import color_of
from dream_env.nicol.tasks import TASKS


def dummy(world_model, count=3, monitor_dir=None, seed=7, **kwargs):
    """The `DummyVecEnv` that rl_zoo3 builds."""
    return make_vec_env(
        "NicoLDream-v0",
        count,
        seed,
        monitor_dir=monitor_dir,
        env_kwargs={"world_model": world_model, "task": "all", **kwargs},
        monitor_kwargs={"info_keywords": ("is_success",)},
    )


def monitored(folder):
    """Rows of the monitor files in a folder."""
    rows = []
    for path in sorted(Path(folder).glob("*.monitor.csv")):
        with path.open() as file:
            file.readline()
            rows += csv.DictReader(file)
    return rows


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("kwargs", [{}, {"goal_env": True}, {"obs_type": "pixels"}], ids=str)
def test_batch_equals_the_single_envs_it_replaces(toy_folder, tmp_path, kwargs):
    one = dummy(toy_folder, monitor_dir=str(tmp_path / "one"), **kwargs)
    other = BatchedDream(dummy(toy_folder, monitor_dir=str(tmp_path / "other"), **kwargs))
    assert_same(one.reset(), other.reset())
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        (obs, rewards, dones, infos), batch = one.step(action), other.step(action)
        assert_same(obs, batch[0])
        np.testing.assert_array_equal(rewards, batch[1])
        np.testing.assert_array_equal(dones, batch[2])
        for i in np.flatnonzero(dones):
            assert infos[i].keys() == batch[3][i].keys()
            assert_same(infos[i]["terminal_observation"], batch[3][i]["terminal_observation"])
            assert infos[i]["TimeLimit.truncated"] == batch[3][i]["TimeLimit.truncated"]
            assert infos[i]["is_success"] == batch[3][i]["is_success"]
            a, b = infos[i]["episode"], batch[3][i]["episode"]
            assert (a["l"], a["is_success"]) == (b["l"], b["is_success"])
            assert a["r"] == pytest.approx(b["r"], abs=1e-5)
    one.close(), other.close()
    files = [monitored(tmp_path / name) for name in ("one", "other")]
    assert len(files[0]) == len(files[1]) == 6
    for a, b in zip(*files, strict=True):
        assert float(a["r"]) == pytest.approx(float(b["r"]), abs=1e-5)
        assert (a["l"], a["is_success"]) == (b["l"], b["is_success"])


def test_batch_keeps_a_shorter_time_limit(toy_folder):
    envs = [lambda: gym.make("NicoLDream-v0", world_model=toy_folder, max_episode_steps=5)] * 2
    batch = BatchedDream(DummyVecEnv(envs))
    batch.reset()
    ends = [batch.step(np.zeros((2, 4)))[2].all() for _ in range(5)]
    assert ends == [False] * 4 + [True]
    longer = [lambda: gym.make("NicoLDream-v0", world_model=toy_folder, max_episode_steps=99)]  # still ends at 24
    assert BatchedDream(DummyVecEnv(longer)).get_attr("max_episode_steps") == [24]
    limits = [lambda n=n: gym.make("NicoLDream-v0", world_model=toy_folder, max_episode_steps=n) for n in (5, 20)]
    with pytest.raises(ValueError, match="environments that differ"):
        BatchedDream(DummyVecEnv(limits))


def test_batch_keeps_the_options_that_were_set(toy_folder):
    envs = make_vec_env("NicoLDream-v0", 2, env_kwargs={"world_model": toy_folder})
    envs.set_options({"instruction": "lift the red cube"})
    batch = BatchedDream(envs)
    batch.reset()
    assert batch.get_attr("instruction") == ["lift the red cube"] * 2


def test_batch_reads_sentences_and_options_as_the_single_env_does(toy_folder):
    """NICOL's sentences name a task: "grab" is lifting, even if another task's recorded sentence is more similar."""
    batch = BatchedDream(dummy(toy_folder, count=1))
    single = gym.make("NicoLDream-v0", task="all", world_model=toy_folder)
    recorded, rng = single.unwrapped.dreams.initial_states.instruction, np.random.default_rng(0)
    names = []
    for color in sorted({color_of(str(sentence)) for sentence in recorded}):
        for task in ("reach", "push", "lift"):
            sentence = TASKS[task].grammar.sample(rng, color, "test")
            try:
                single.reset(seed=0, options={"instruction": sentence})
            except ValueError:  # the toy has recorded no such start
                continue
            batch.seed(0), batch.set_options({"instruction": sentence}), batch.reset()
            names.append((single.unwrapped.task_name, *batch.get_attr("task_name")))
    assert len(names) > 5 and all(one == other for one, other in names)
    picture = np.zeros((64, 64, 3), np.uint8)
    batch.set_options({"image": picture, "proprio": np.zeros(4, np.float32), "goal_image": picture})
    batch.reset()


def test_batch_refuses_what_it_would_change(toy_folder):
    with pytest.raises(ValueError, match="accepted: a DummyVecEnv of Dream-v0 or NicoLDream-v0"):
        BatchedDream(make_vec_env("CartPole-v1", 2))
    with pytest.raises(ValueError, match="accepted: a DummyVecEnv of Dream-v0 or NicoLDream-v0"):
        BatchedDream(DreamVecEnv(2, world_model=toy_folder))
    kwargs = {"world_model": toy_folder}
    with pytest.raises(ValueError, match="ClipReward"):
        BatchedDream(
            make_vec_env(
                "NicoLDream-v0",
                env_kwargs=kwargs,
                wrapper_class=gym.wrappers.ClipReward,
                wrapper_kwargs={"max_reward": 1.0},
            )
        )
    tasks = [lambda t=t: gym.make("NicoLDream-v0", task=t, **kwargs) for t in ("reach", "lift")]
    with pytest.raises(ValueError, match="environments that differ"):
        BatchedDream(DummyVecEnv(tasks))
    ids = [lambda name=name: gym.make(name, task="all", **kwargs) for name in ("NicoLDream-v0", "Dream-v0")]
    with pytest.raises(ValueError, match="environments that differ"):
        BatchedDream(DummyVecEnv(ids))


def test_vec_env_ends_episodes_as_sb3_wants(toy_folder):
    envs = DreamVecEnv(4, "all", world_model=toy_folder, render_mode="rgb_array")
    vector = NicoLDreamVectorEnv(4, "all", world_model=toy_folder)
    envs.seed(5)
    first, batch = vector.reset(seed=5)
    assert_same(envs.reset(), first)
    assert [info["distance"] for info in envs.reset_infos] == batch["distance"].tolist()
    assert type(envs.reset_infos[0]["is_success"]) is bool
    total = np.zeros(4)
    for _ in range(EPISODE_STEPS):
        action = np.full((4, 4), 0.1, np.float32)
        obs, rewards, dones, infos = envs.step(action)
        expected, *_, batch = vector.step(action)
        total += rewards
    assert dones.all() and rewards.dtype == np.float32
    assert_same(obs, expected)
    assert [info["distance"] for info in envs.reset_infos] == batch["distance"].tolist()
    for i, info in enumerate(infos):
        assert_same(info["terminal_observation"], batch["final_obs"][i])
        assert info["TimeLimit.truncated"] is True and type(info["is_success"]) is bool
        assert info["distance"] == batch["final_info"]["distance"][i]
        assert info["episode"]["l"] == EPISODE_STEPS
        assert info["episode"]["r"] == pytest.approx(total[i], abs=1e-5)
    assert envs.render().shape == (512, 512, 3)
    assert envs.metadata == {"render_modes": ["human", "rgb_array"], "render_fps": 10}
    assert envs.step(np.zeros((4, 4)))[3] == [{}] * 4


def test_vec_env_attributes_and_methods(toy_folder):
    envs = DreamVecEnv(3, "all", world_model=toy_folder, goal_env=True, reward="energy")
    envs.seed(0)
    obs = envs.reset()
    assert envs.get_attr("render_mode") == [None] * 3
    assert envs.get_attr("task", 1) == ["all"]
    envs.set_attr("task", "lift")
    envs.reset()
    assert envs.get_attr("task") == envs.get_attr("task_name") == ["lift"] * 3
    with pytest.raises(AttributeError):
        envs.set_attr("max_episode_steps", 3)
    envs.seed(0)
    obs = envs.reset()
    assert envs.get_attr("instruction", [2, 0]) == [envs.dreams.instruction[i] for i in (2, 0)]
    assert envs.env_is_wrapped(Monitor) == [True] * 3
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3
    goals = obs["achieved_goal"], obs["desired_goal"], [{}] * 3
    (rewards,) = envs.env_method("compute_reward", *goals, indices=[0])
    assert rewards.shape == (3,)
    envs.set_attr("note", "kept")
    assert envs.dreams.note == "kept"
    with pytest.raises(ValueError, match="shared by all dreams"):
        envs.set_attr("note", "lost", indices=[1])
    envs.set_options({"instruction": "lift the red cube"})
    envs.reset()
    assert set(envs.get_attr("instruction")) == {"lift the red cube"}
    envs.reset()
    assert set(envs.get_attr("instruction")) != {"lift the red cube"}
    picture = {"pixels": np.zeros((64, 64, 3), np.uint8), "proprio": np.zeros(4, np.float32)}
    envs.set_options([{"observation": {name: array.copy() for name, array in picture.items()}} for _ in range(3)])
    envs.reset()
    envs.set_options([{}, {}, {"instruction": "lift the red cube"}])
    with pytest.raises(ValueError, match="options differ"):
        envs.reset()
    assert not DreamVecEnv(1, world_model=toy_folder).has_attr("compute_reward")


def test_ppo_learns_on_pixels_and_is_evaluated(toy_folder):
    envs = VecTransposeImage(DreamVecEnv(8, world_model=toy_folder, obs_type="pixels"))
    policy = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    size = {"n_steps": 32, "batch_size": 128, "n_epochs": 1}
    ppo = PPO("MultiInputPolicy", envs, **size, policy_kwargs=policy, seed=0)
    ppo.learn(256)
    assert len(ppo.ep_info_buffer) == 8 and len(ppo.ep_success_buffer) == 8
    returns, lengths = evaluate_policy(ppo, envs, 8, return_episode_rewards=True)
    assert lengths == [EPISODE_STEPS] * 8 and max(returns) < 0


def test_hindsight_replay_on_the_batch(toy_folder):
    envs = DreamVecEnv(4, "all", world_model=toy_folder, goal_env=True)
    sac = SAC(
        "MultiInputPolicy",
        envs,
        learning_starts=100,
        train_freq=25,
        gradient_steps=4,
        batch_size=16,
        replay_buffer_class=HerReplayBuffer,
        policy_kwargs={"net_arch": [16]},
        seed=0,
    )
    sac.learn(200)
    assert sac._n_updates > 0


def test_rl_zoo3_trains_a_batch_unmodified(toy_folder, tmp_path):
    config = tmp_path / "ppo.yml"
    config.write_text(
        "NicoLDream-v0:\n"
        "  n_envs: 16\n  n_timesteps: 1536\n  policy: MultiInputPolicy\n"
        "  n_steps: 32\n  batch_size: 128\n  n_epochs: 1\n"
        "  policy_kwargs: 'dict(net_arch=[16])'\n"
        "  vec_env_wrapper: dream_env.adapters.sb3.BatchedDream\n"
        "  monitor_kwargs: \"dict(info_keywords=('is_success',))\"\n"
    )
    command = "-m rl_zoo3.train --algo ppo --env NicoLDream-v0 --gym-packages dream_env toy"
    options = f"--conf-file {config} -f {tmp_path / 'logs'} --eval-freq 768 --num-threads 1"
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, *command.split(), *options.split(), "--seed", "3"]
        + ["--env-kwargs", f"world_model:'{toy_folder}'", "--eval-env-kwargs", f"world_model:'{toy_folder}'"],
        cwd=tmp_path,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "logs" / "ppo" / "NicoLDream-v0_1"
    assert (run / "NicoLDream-v0.zip").is_file()
    assert len(np.load(run / "evaluations.npz")["successes"]) >= 1
    episodes = monitored(run)
    assert len(episodes) == 16 * (1536 // 16 // EPISODE_STEPS)
    assert {row["l"] for row in episodes} == {str(EPISODE_STEPS)} and "is_success" in episodes[0]

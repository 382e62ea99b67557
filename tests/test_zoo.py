"""The configurations for rl_zoo3: they practise as `agents.train` does, and run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from dream_env.agents.run import zoo_ppo as hyperparams
from dream_env.agents.run import zoo_sac as hyperparams_sac
from dream_env.agents.train.learners import make_model, terms_of
from dream_env.nicol.constants import EPISODE_STEPS

TESTS = Path(__file__).parent


@pytest.mark.parametrize("algo, conf", [("ppo", hyperparams), ("sac", hyperparams_sac)])
def test_the_zoo_practices_as_agents_train_does(args, algo, conf):
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import get_wrapper_class

    conf = conf.hyperparams["NicoLDream-v0"]
    kwargs = {**conf["env_kwargs"], "world_model": args.world_model}
    env = get_wrapper_class(dict(conf), "vec_env_wrapper")(make_vec_env("NicoLDream-v0", 8, env_kwargs=kwargs))
    env.reset()
    terms = terms_of(replace(args, algo=algo))
    for step in range(1, EPISODE_STEPS + 1):
        _, rewards, dones, infos = env.step(np.zeros((8, 4), np.float32))
        assert dones.all() == (step == EPISODE_STEPS) and (rewards < 0).all()
    ends = [-terms.reward_weights.last_step * info["distance"] for info in infos]
    np.testing.assert_allclose(rewards, ends, rtol=1e-5)
    assert all(info["TimeLimit.truncated"] == terms.reward_weights.bootstrap_at_timeout for info in infos)
    assert kwargs["reward"] == args.reward_in(True) == "energy"
    model = make_model(replace(args, algo=algo, init="state_grounded", critic_warmup=None), env)
    names = {"gamma", "kl_coef", "learning_starts", "gradient_steps", "target_kl"} & set(conf)
    assert {name: getattr(model, name) for name in names} == pytest.approx({name: conf[name] for name in names})
    rate = ExperimentManager._preprocess_schedules({"learning_rate": conf["learning_rate"]})["learning_rate"]
    assert [rate(left) for left in (1, 0.25, 0)] == pytest.approx([model.lr_schedule(left) for left in (1, 0.25, 0)])
    assert rate(1) == 3e-4 and (rate(0) == 0) == (algo == "ppo")


@pytest.mark.parametrize("algo, conf", [("ppo", "run.zoo_ppo"), ("sac", "run.zoo_sac")])
def test_the_zoo_trains_it(folders, tmp_path, algo, conf):
    world, clone = folders
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", algo, "--env", "NicoLDream-v0"]
    command += ["--gym-packages", "dream_env", "toy", "--eval-freq", "-1", "-f", str(tmp_path)]
    command += ["--conf-file", f"dream_env.agents.{conf}", "-n", "512", "--num-threads", "1"]
    command += ["--env-kwargs", f"world_model:{world!r}"]
    # This clone looks by itself.
    wrappers = ["dream_env.adapters.sb3.BatchedDream", "dream_env.adapters.sb3.RewardWeighting"]
    command += ["-params", "n_envs:8", f"policy_kwargs:dict(clone={clone!r})", f"vec_env_wrapper:{wrappers!r}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / algo / "NicoLDream-v0_1" / "NicoLDream-v0.zip").exists()

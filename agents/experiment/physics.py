"""Model-free reinforcement learning in physics: what the same robot learns without a dream."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from tqdm import tqdm

from dream_env.agents import train
from dream_env.agents.experiment.meter import Meter
from dream_env.agents.experiment.plan import WALL, Spec, budgets
from dream_env.agents.experiment.policies import Made, Setup, after, need
from dream_env.agents.outcomes import write_text
from dream_env.contract import EPISODE_STEPS


def ppo_physics(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Trains the clone on by PPO in physics; a run that was killed goes on."""
    base = need(spec, setup, "clone")
    args = train.Arguments(
        **setup.physics_recipe,
        env="NicoLReal-v0",
        out=out / "run",
        init=base.path,
        world_model=setup.world_model,
        validation_episodes=0,
        seed=spec.seed,
    )
    envs = _physics_envs(setup, spec, reward=args.pays)

    def learn(steps: int) -> int:
        train.train(replace(args, steps=steps, validate_every=steps), envs, None, progress=False)
        return int(json.loads((args.out / "validation.json").read_text())[-1]["steps"])

    def keep(budget: str) -> Path:
        shutil.copytree(
            args.out, out / budget, ignore=shutil.ignore_patterns("tensorboard", "*.zip"), dirs_exist_ok=True
        )
        return out / budget

    return _look(spec, setup, base, learn, keep, meter, out)


def sac_her_physics(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Learns from nothing; a run that was killed begins anew, as its replay buffer is not kept."""
    (out / "looks.json").unlink(missing_ok=True)
    meter.forget()
    episode = setup.physics_envs * EPISODE_STEPS
    # The raw distance: relabeling asks for rewards of whole batches, and the learned one would take longer than all.
    model = SAC(
        "MultiInputPolicy",
        _physics_envs(setup, spec, reward="bounded", goal_env=True),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        buffer_size=40_000,
        learning_starts=2 * episode,
        gamma=0.97,
        batch_size=128,
        gradient_steps=max(1, setup.physics_envs // 5),
        policy_kwargs={"net_arch": [128, 128]},
        seed=spec.seed,
        device="cpu",
    )

    def learn(steps: int) -> int:
        model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
        return model.num_timesteps

    def keep(budget: str) -> Path:
        model.save(out / budget)
        return out / f"{budget}.zip"

    return _look(spec, setup, Made("", None, 0, 0.0, 0.0, 0.0, 0.0), learn, keep, meter, out)


def _physics_envs(setup: Setup, spec: Spec, **kwargs: Any) -> VecEnv:
    """Makes physics envs that share a process: each policy of the experiment has one core."""
    kwargs = {"task": "all", "world_model": setup.world_model, **kwargs}
    return make_vec_env(
        "dream_env:NicoLReal-v0", setup.physics_envs, spec.seed, env_kwargs=kwargs, vec_env_cls=DummyVecEnv
    )


def _look(
    spec: Spec,
    setup: Setup,
    base: Made,
    learn: Callable[[int], int],
    keep: Callable[[str], Path],
    meter: Meter,
    out: Path,
) -> dict[str, Made]:
    """Lets a model-free learner practice, and keeps the policies that it has when its budgets are used up.

    Args:
        spec: What is made.
        setup: See `Setup`.
        base: The policy that it began with.
        learn: Learns until a number of physics steps is reached, and returns the steps so far.
        keep: Keeps the policy of now under the name of a budget.
        meter: Counts its time.
        out: Folder of the learner; an interrupted one has looks.json there.
    """
    wanted = budgets(spec.method, setup.physics_steps, setup.equal_wall)
    limit = need(spec, setup, "dream").practice_cpu_s if setup.equal_wall else 0.0
    file, steps, chunk = out / "looks.json", 0, 4 * setup.physics_envs * EPISODE_STEPS
    made = {k: Made(**v) for k, v in json.loads(file.read_text()).items()} if file.is_file() else {}
    with tqdm(desc=f"{spec.method} {spec.seed}", unit="step") as bar:
        while missing := [budget for budget in wanted if budget not in made]:
            ends = [int(budget) for budget in missing if budget != WALL]
            steps = learn(min([steps + chunk, *ends]))
            bar.update(steps - bar.n)
            for budget in missing:
                if meter.cpu_s >= limit if budget == WALL else steps >= int(budget):
                    made[budget] = after(base, meter, keep(budget), steps)
                    write_text(file, json.dumps({k: asdict(v) for k, v in made.items()}) + "\n")
    return made

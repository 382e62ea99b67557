"""Model-free reinforcement learning in physics: what the same robot learns without a dream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from tqdm import tqdm

from dream_env.agents import train
from dream_env.agents.studies.transfer.meter import Meter
from dream_env.agents.studies.transfer.plan import WALL, Spec, budgets
from dream_env.agents.studies.transfer.policies import Made, Setup, after, need
from dream_env.nicol.constants import EPISODE_STEPS

NOTHING = Made("", None, 0, 0.0, 0.0, 0.0, 0.0)
"""What a learner begins with that has seen no demonstration."""


def ppo_physics(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Trains the clone on by PPO in physics, from the start for every budget; a run that was killed goes on.

    So whenever it is looked at, its learning rate has just fallen to zero.
    """
    base, made = need(spec, setup, "clone"), dict[str, Made]()
    for budget in budgets(spec.method, setup.physics_steps, setup.equal_time):
        if budget == WALL:
            limit, longest = need(spec, setup, "dream").practice_cpu_s, [*made.values()][-1]
            if longest.practice_cpu_s >= limit:
                made[WALL] = next(one for one in made.values() if one.practice_cpu_s >= limit)
                continue
            steps = round(longest.practice_steps * limit / longest.practice_cpu_s)
        else:
            steps = int(budget)
        args = train.Arguments(
            **setup.physics_recipe,
            env="NicoLReal-v0",
            out=out / budget,
            init=base.path,
            world_model=setup.world_model,
            steps=steps,
            validate_every=_chunk(setup),
            validation_episodes=0,
            seed=spec.seed,
        )
        with Meter(out / f"{budget}.json") as own:
            envs = _physics_envs(setup, spec, reward=args.pays)
            train.train(args, envs, None, progress=False)
            envs.close()
        taken = json.loads((args.out / "validation.json").read_text())[-1]["steps"]
        made[budget] = after(base, own, args.out, int(taken))
    return made


def sac_her_physics(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Learns from nothing; a run that was killed begins anew, as its replay buffer is not kept."""
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
    wanted = budgets(spec.method, setup.physics_steps, setup.equal_time)
    limit = need(spec, setup, "dream").practice_cpu_s if setup.equal_time else 0.0
    made: dict[str, Made] = {}
    with tqdm(desc=f"{spec.method} {spec.seed}", unit="step") as bar:
        while missing := [budget for budget in wanted if budget not in made]:
            ends = [int(budget) for budget in missing if budget != WALL]
            steps = min([model.num_timesteps + _chunk(setup), *ends])
            model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
            bar.update(model.num_timesteps - bar.n)
            for budget in missing:
                if meter.cpu_s >= limit if budget == WALL else model.num_timesteps >= int(budget):
                    model.save(out / budget)
                    made[budget] = after(NOTHING, meter, out / f"{budget}.zip", model.num_timesteps)
    return made


def _physics_envs(setup: Setup, spec: Spec, **kwargs: Any) -> VecEnv:
    """Makes physics envs that share a process: each policy of the experiment has one core."""
    kwargs = {"task": "all", "world_model": setup.world_model, **kwargs}
    return make_vec_env(
        "dream_env:NicoLReal-v0", setup.physics_envs, spec.seed, env_kwargs=kwargs, vec_env_cls=DummyVecEnv
    )


def _chunk(setup: Setup) -> int:
    """Returns after how many steps a learner is saved, or its time is looked at."""
    return 4 * setup.physics_envs * EPISODE_STEPS

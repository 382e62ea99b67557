"""Trains the policies of the transfer study; each is trained once and saved with its costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.coevolve import command as coevolve
from dream_env.agents.eval.untrained import untrained_dynamics
from dream_env.agents.nicol import regressor
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.agents.policies import registry
from dream_env.agents.policies.sb3 import SB3Policy
from dream_env.agents.studies.transfer.plan import WALL, Spec, budgets
from dream_env.agents.studies.transfer.policies import (
    Setup,
    Stopwatch,
    TrainedPolicy,
    folder,
    need,
    needs,
    settings,
    trained,
)
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.files import write_json, write_text
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

Made = dict[str, TrainedPolicy]
"""Maps the budgets at which a policy is evaluated to its trained versions, see `plan.budgets`."""


def make(spec: Spec, setup: Setup) -> Made:
    """Trains a policy and the policies it depends on, unless they exist; waits if another process is training it."""
    for each in needs(spec, setup):
        make(each, setup)
    out = folder(spec, setup)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        made = trained(spec, setup)
        if made is None or not all(Path(one.path).exists() for one in made.values()):  # an archive has no weights
            write_text(out / "settings.json", json.dumps(settings(spec, setup), indent=1, default=str) + "\n")
            with Stopwatch(out / "time.json") as watch:
                made = MAKERS[spec.method](spec, setup, out, watch)
            write_json(out / "made.json", {budget: asdict(policy) for budget, policy in made.items()})
    return made


# --- from demonstrations alone


@lru_cache(maxsize=1)
def _episodes(data: Path) -> EpisodeDataset:
    return EpisodeDataset.load(data)


def _fresh(watch: Stopwatch, path: Path) -> TrainedPolicy:
    return TrainedPolicy(str(path), cpu_s=watch.cpu_s, wall_s=watch.wall_s)


def _cloning(spec: Spec, setup: Setup, out: Path, **kwargs: Any) -> clone.Arguments:
    kwargs = {"updates": setup.clone_updates, **kwargs}
    return clone.Arguments(
        (setup.data[0],), out / "policy", per_task=spec.demos, world_model=setup.world_model, seed=spec.seed, **kwargs
    )


def _clone(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    inputs = {"grounded": spec.method != "clone_ungrounded", "looks": spec.method == "clone_looking"}
    args = _cloning(spec, setup, out, **inputs)
    clone.run(args, _episodes(setup.data[0]), checkpoint.load(setup.world_model))
    return {"": _fresh(watch, args.out)}


def _clone_equal_compute(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    """Clones with as many additional updates as fit into the CPU time of RL in the dream."""
    base, practice = need(spec, setup, "clone"), need(spec, setup, "dream").practice_cpu_s
    more = round(setup.clone_updates * practice / base.cpu_s)
    args = _cloning(spec, setup, out, updates=setup.clone_updates + more)
    clone.run(args, _episodes(setup.data[0]), checkpoint.load(setup.world_model))
    made = _fresh(watch, args.out)
    cpu, wall = max(0.0, made.cpu_s - base.cpu_s), max(0.0, made.wall_s - base.wall_s)
    return {"": replace(made, practice_cpu_s=cpu, practice_wall_s=wall)}


def _regressor(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    model = checkpoint.load(setup.world_model)
    demos = clone.demonstrations(_cloning(spec, setup, out), _episodes(setup.data[0]))
    config = regressor.RegressorConfig(model.embedding_dim, world_model=setup.world_model)
    labels = torch.tensor(demos.label)
    fitted = regressor.regress(encode_episodes(model, demos), labels, config, setup.clone_updates, seed=spec.seed)
    checkpoint.save(fitted, out / "policy", f"# Regressor\n\n{spec.demos} demonstrations per task, seed {spec.seed}.\n")
    return {"": _fresh(watch, out / "policy")}


# --- by RL in a dream


def _practice(spec: Spec, setup: Setup, out: Path, world_model: str, init: str) -> int:
    """Trains by RL in a dream, into `out`/policy, and returns the physics steps of the validations."""
    own: dict[str, Any] = {"out": out / "policy", "init": init, "world_model": world_model, "seed": spec.seed}
    args = Practice(**{"validation_episodes": 0, **setup.recipe, **own})
    physics = train.make_physics(args.task, args.world_model, args.reward) if args.validation_episodes else None
    train.train(args, train.make_env(args), physics, progress=False)
    history = json.loads((args.out / "validation.json").read_text())
    return EPISODE_STEPS * args.validation_episodes * sum("success" in entry for entry in history)


def _dream(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    base = need(spec, setup, "clone")
    steps = _practice(spec, setup, out, setup.world_model, base.path)
    return {"": watch.after(base, out / "policy", steps)}


def _untrained_dream(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    """Practices in a dream with untrained dynamics, which predict hardly any change; evaluated in the trained dream."""
    base = need(spec, setup, "clone")
    world = untrained_dynamics(setup.world_model, spec.seed, out / "world_model")
    steps = _practice(spec, setup, out, str(world), base.path)
    return {"": watch.after(base, out / "policy", steps)}


def _dream_coevolved(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    """Records the practiced policy in physics, refits the world model including these episodes, and practices on."""
    base, count = need(spec, setup, "dream"), setup.coevolution_episodes
    own: dict[str, Any] = {"updates": setup.refit_updates, "threads": 1, "workers": 1, "seed": spec.seed}
    args = coevolve.Arguments(Path(base.path), setup.data, out, setup.world_model, count, **own)
    world = coevolve.record_and_refit(args)
    steps = count * EPISODE_STEPS + _practice(spec, setup, out, str(world), base.path)
    return {"": watch.after(base, out / "policy", steps, str(world))}


# --- by RL in physics, without a model


def ppo_physics(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    """Trains the clone by PPO in physics, in a separate run for every budget; an interrupted run resumes.

    With separate runs, the learning rate has decayed to zero at every evaluation.
    """
    base, made = need(spec, setup, "clone"), Made()
    for budget in budgets(spec.method, setup.physics_steps, setup.equal_time):
        if budget == WALL:
            limit, longest = need(spec, setup, "dream").practice_cpu_s, [*made.values()][-1]
            if longest.practice_cpu_s >= limit:
                made[WALL] = next(one for one in made.values() if one.practice_cpu_s >= limit)
                continue
            steps = round(longest.practice_steps * limit / longest.practice_cpu_s)
        else:
            steps = int(budget)
        args = Practice(
            **setup.physics_recipe,
            world="real",
            out=out / budget,
            init=base.path,
            world_model=setup.world_model,
            steps=steps,
            validate_every=_chunk(setup),
            validation_episodes=0,
            seed=spec.seed,
        )
        with Stopwatch(out / f"{budget}.json") as own:
            envs = _physics_envs(setup, spec, reward=args.reward_in(True))
            train.train(args, envs, None, progress=False)
            envs.close()
        taken = json.loads((args.out / "validation.json").read_text())[-1]["steps"]
        made[budget] = own.after(base, args.out, int(taken))
    return made


def sac_her_physics(spec: Spec, setup: Setup, out: Path, watch: Stopwatch) -> Made:
    """Trains SAC from scratch; an interrupted run starts over, because its replay buffer is not saved."""
    watch.restart()
    episode = setup.physics_envs * EPISODE_STEPS
    # The raw distance, because relabelling computes rewards of whole batches, which is too slow with the learned one.
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
    made = Made()
    with progress_bar(desc=f"{spec.method} {spec.seed}", unit="step") as bar:
        while missing := [budget for budget in wanted if budget not in made]:
            ends = [int(budget) for budget in missing if budget != WALL]
            steps = min([model.num_timesteps + _chunk(setup), *ends])
            model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
            bar.update(model.num_timesteps - bar.n)
            for budget in missing:
                if watch.cpu_s >= limit if budget == WALL else model.num_timesteps >= int(budget):
                    actor = SB3Policy.of(model, "embedding", str(setup.world_model))
                    card = f"# SAC with hindsight, in physics\n\n{model.num_timesteps} steps, seed {spec.seed}.\n"
                    registry.save(actor, out / budget, card)
                    made[budget] = watch.after(TrainedPolicy(), out / budget, model.num_timesteps)
    return made


def _physics_envs(setup: Setup, spec: Spec, **kwargs: Any) -> VecEnv:
    """Creates physics environments in this process, because each policy of the study has one core."""
    kwargs = {"task": "all", "world_model": setup.world_model, **kwargs}
    return make_vec_env(
        "dream_env:NicoLReal-v0", setup.physics_envs, spec.seed, env_kwargs=kwargs, vec_env_cls=DummyVecEnv
    )


def _chunk(setup: Setup) -> int:
    """Returns the number of steps between saves, or between checks of the time budget."""
    return 4 * setup.physics_envs * EPISODE_STEPS


MAKERS: dict[str, Callable[[Spec, Setup, Path, Stopwatch], Made]] = {
    **dict.fromkeys(("clone", "clone_ungrounded", "clone_looking"), _clone),
    "clone_equal_compute": _clone_equal_compute,
    "regressor": _regressor,
    "dream": _dream,
    "dream_coevolved": _dream_coevolved,
    "untrained_dream": _untrained_dream,
    "ppo_physics": ppo_physics,
    "sac_her_physics": sac_her_physics,
}
"""Functions that train the policy of each of `METHODS`."""

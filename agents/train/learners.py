"""Algorithms of `agents.train`, with their hyperparameters, and the environments that they train in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import mul
from typing import Any

import gymnasium as gym
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from dream_env.adapters.sb3 import DreamVecEnv, FromZero, RewardWeighting
from dream_env.agents.nicol.object_state import ObjectStateEncoder, ObjectStateVecEnv, reads_object_state_only
from dream_env.agents.nicol.vla import VLA
from dream_env.agents.policies import practice, registry
from dream_env.agents.policies.actors import VLAPolicy, VLASACPolicy
from dream_env.agents.policies.ppo import ClonePPO
from dream_env.agents.policies.practice import PractisedPolicy
from dream_env.agents.policies.sac import CloneSAC
from dream_env.agents.policies.sb3 import SB3Policy
from dream_env.agents.policies.tensor_env import TensorVecEnv
from dream_env.agents.run import workers as pool
from dream_env.agents.run.worlds import make_real, spec_of
from dream_env.agents.train.arguments import Arguments, Terms
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.observations import ObsType
from dream_env.rewards import EVERY_STEP
from dream_env.tensors import TensorDreams

MOST_STEPS = 50
"""Maximum number of steps per rollout for PPO from a clone; a rollout is one episode if that is shorter."""
MINIBATCHES = 12
"""Maximum number of minibatches per rollout for PPO from a clone. With more environments the minibatches become larger
instead, which a GPU computes more efficiently."""


@dataclass(frozen=True)
class Learner:
    """An algorithm and its hyperparameters.

    Attributes:
        algorithm: Class of the algorithm.
        rate: Learning rate.
        falls: Whether the learning rate decays linearly to 0.
        kwargs: Further arguments of the class.
    """

    algorithm: type[BaseAlgorithm]
    rate: float = 1e-3
    falls: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)


_REPLAY: dict[str, Any] = {"learning_starts": 500, "buffer_size": 100_000}
_NET: dict[str, Any] = {"policy_kwargs": {"net_arch": [64, 64]}}
CLONES = {
    "ppo": Learner(
        ClonePPO,
        3e-4,
        True,
        {
            "n_steps": EPISODE_STEPS,
            "batch_size": 512,
            "n_epochs": 2,
            "gae_lambda": 0.95,
            "target_kl": 0.03,
        },
    ),
    "sac": Learner(
        CloneSAC,
        3e-4,
        False,
        {"buffer_size": 50_000, "learning_starts": 0, "batch_size": 256, "gradient_steps": 8},
    ),
}
"""Learners that start from a clone, with hyperparameters for NICOL."""
PRACTISED_RATE = 6e-4
"""Learning rate of PPO's actor for clones other than NICOL's VLA, which trains only a small head; times the standard
deviation of the clone's actions, as the KL divergence of an update measures its change in these. At a higher rate, the
updates of the first rollout undo what cloning has learned in thousands of updates."""
CRITIC_RATE = 10.0
"""Learning rate of the critic of such a clone, as a multiple of the actor's, because the critic starts from random
weights."""
LEARNERS = {
    "ppo": Learner(
        PPO,
        1e-3,
        True,
        {"n_steps": 64, "batch_size": 256, "n_epochs": 10, "gamma": 0.98, "gae_lambda": 0.8, **_NET},
    ),
    "a2c": Learner(A2C, 7e-4, True, {"n_steps": 8, "gae_lambda": 0.95, **_NET}),
    "sac": Learner(SAC, 1e-3, False, {**_REPLAY, **_NET}),
    "td3": Learner(TD3, 1e-3, False, {**_REPLAY, **_NET}),
    "ddpg": Learner(DDPG, 1e-3, False, {**_REPLAY, **_NET}),
    "dqn": Learner(DQN, 1e-3, False, {**_REPLAY, "target_update_interval": 250, "exploration_fraction": 0.2, **_NET}),
}
"""Learners of stable-baselines3 that start from random weights, with hyperparameters for small environments."""


def obs_type_of(args: Arguments) -> ObsType:
    """Returns the type of observation that the policy needs."""
    if args.init:
        return registry.obs_type_of(registry.load(args.init))
    return args.obs_type or ("embedding" if spec_of(args.world_model).pictures else "native")


def terms_of(args: Arguments) -> Terms:
    """Returns discount and reward weights of a learner that starts from a clone."""
    spec = spec_of(args.world_model)
    return args.terms(spec.horizon, spec.goals)


def make_env(args: Arguments) -> VecEnv:
    """Makes the environments to train in.

    Raises:
        ValueError: If an option does not fit the world, or `args.init` is a policy that RL cannot start from.
    """
    if args.init and not isinstance(registry.load(args.init), VLA):
        practice.load(args.init)
    kwargs: dict[str, Any] = {"reward": args.reward, "world_model": args.world_model}
    kwargs |= {"task": args.task, "obs_type": obs_type_of(args)}
    if args.world == "real":
        make: Callable[[], gym.Env] = partial(make_real, args.env, **kwargs)
        return make_vec_env(make, args.n_envs or pool.cores(), args.seed, vec_env_cls=SubprocVecEnv)
    kwargs |= {
        "initial_states": args.initial_states,
        "starts": args.starts,
        "temperature": args.temperature,
        "compile": args.compile,
        "device": args.device,
    }
    if not (args.init and args.algo == "ppo"):
        return DreamVecEnv(args.dreams, **kwargs)
    dreams, clone = TensorDreams(args.dreams, seed=args.seed, **kwargs), registry.load(args.init, args.device)
    encoder = ObjectStateEncoder(clone, dreams.single_observation_space) if reads_object_state(clone) else None
    return TensorVecEnv(dreams, encoder, terms_of(args).reward_weights)


def prepare(args: Arguments, env: VecEnv) -> VecEnv:
    """Wraps the environments as the learner needs.

    Rewards are weighted, object states computed once for a VLA, and discrete actions counted from 0.
    """
    if isinstance(env, TensorVecEnv):
        return env
    if args.init and (reward_weights := terms_of(args).reward_weights) != EVERY_STEP:
        env = RewardWeighting(env, *reward_weights)
    if args.init and reads_object_state(registry.load(args.init)):
        env = ObjectStateVecEnv(env, args.init, args.device)
    return FromZero(env) if not args.init and first_action(args) else env


def first_action(args: Arguments) -> int:
    """Returns the number of the world's first discrete action; 0 for other actions."""
    return int(getattr(spec_of(args.world_model).action, "start", 0))


def reads_object_state(clone: Any) -> bool:
    """Returns whether a clone trains on object states that `ObjectStateEncoder` computes once from observations."""
    return isinstance(clone, VLA) and reads_object_state_only(clone.config)


def rollout_steps(args: Arguments) -> int:
    """Returns the steps per rollout for PPO from a clone: the length of an episode, at most `MOST_STEPS`."""
    return min(spec_of(args.world_model).horizon or MOST_STEPS, MOST_STEPS)


def rollouts(args: Arguments, env: VecEnv) -> int:
    """Returns the number of rollouts in a run of PPO from a clone."""
    return -(-args.steps // (rollout_steps(args) * env.num_envs))


def make_model(args: Arguments, env: VecEnv) -> BaseAlgorithm:
    """Creates the algorithm, with the clone as its policy if there is one.

    Raises:
        ValueError: If the algorithm does not support the environment's actions.
    """
    learner = (CLONES if args.init else LEARNERS)[args.algo]
    kwargs = copy.deepcopy(learner.kwargs)  # SB3 modifies it
    rate = learner.rate if args.rate is None else args.rate
    policy: Any = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    if isinstance(env.observation_space, gym.spaces.Box) and len(env.observation_space.shape) == 3:
        policy = "CnnPolicy"
    if args.init:
        kwargs["gamma"] = terms_of(args).discount
        policy = VLAPolicy if args.algo == "ppo" else VLASACPolicy
        if not isinstance(clone := registry.load(args.init), VLA):
            policy = PractisedPolicy
            if args.algo == "ppo":
                rate = PRACTISED_RATE * clone.config.std if args.rate is None else rate
                kwargs["critic_rate"] = CRITIC_RATE
        kwargs |= {"policy_kwargs": {"clone": args.init}, "kl_coef": args.kl_coef}
        if args.algo == "ppo":
            kwargs["n_steps"] = rollout_steps(args)
            steps = kwargs["n_steps"] * env.num_envs
            kwargs["batch_size"] = min(max(kwargs["batch_size"], steps // MINIBATCHES), steps)
            kwargs["critic_warmup"] = args.warmup(rollouts(args, env))
        elif args.critic_warmup is not None:
            kwargs["critic_warmup"] = 1_000 * args.critic_warmup
    try:
        return learner.algorithm(
            policy,
            env,
            learning_rate=partial(mul, rate) if learner.falls else rate,  # called with the fraction of steps left
            seed=args.seed,
            device=args.device,
            **kwargs,
        )
    except AssertionError as error:
        raise ValueError(f"algo={args.algo!r}: {error}; accepted: one that takes {env.action_space}") from error


def policy_of(args: Arguments, model: BaseAlgorithm) -> Any:
    """Returns a copy of the algorithm's current policy, in the form in which it is saved."""
    actor: Any = model.policy
    return actor.vla() if args.init else SB3Policy.of(model, obs_type_of(args), args.world_model, first_action(args))

"""Wraps a real environment so that it has the observations and rewards of the dream environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from dream_env import rewards
from dream_env.checks import check_action, check_choice
from dream_env.engine import GoalDistance
from dream_env.language import embedder, word_rows
from dream_env.observations import ObservationBuilder, ObsType, to_numpy, to_tensors
from dream_env.rewards import DEFAULT_REWARD, RewardName, goal_reward
from dream_env.spec import observe, success_of
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated
from dream_env.world_models.protocol import State


class WorldModelWrapper(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Gives a real environment the observations and rewards of `DreamEnv`, by encoding what it observes.

    The environment does not have to know about the world model. With instructions, it needs an attribute
    `task_description`, or `instruction` in its observations. With goals, it needs an attribute `goal_observation` (a
    dict), or `goal_image` (an image of the first camera).

    Args:
        env: Environment whose spaces are those of the world model's `spec`.
        world_model: "default", a checkpoint folder, or a world model object.
        obs_type: As in `DreamEnv`.
        reward: As in `DreamEnv`, but "environment" is the environment's own reward, and "success" its
            `info["is_success"]` or `info["success"]` (Meta-World's name), which `info` has as "is_success" in any case.
        goal_env: As in `DreamEnv`.
        device: Device on which a world model given by name or folder is loaded.

    Raises:
        ValueError: If the spaces are not those that the world model was fitted to.
    """

    @insulated
    def __init__(
        self,
        env: gym.Env,
        world_model: Any = "default",
        *,
        obs_type: ObsType = "embedding",
        reward: RewardName | None = None,
        goal_env: bool = False,
        device: str = "cpu",
    ) -> None:
        named = isinstance(world_model, str | Path)
        told = str(world_model) if named else f"<a {type(world_model).__name__}>"  # for `gymnasium.make(env.spec)`
        gym.utils.RecordConstructorArgs.__init__(
            self, world_model=told, obs_type=obs_type, reward=reward, goal_env=goal_env, device=device
        )
        super().__init__(env)
        check_choice("reward", reward, (None, *RewardName.__args__))  # type: ignore[attr-defined]
        self.model = model = checkpoint.load(world_model, device) if named else world_model
        self.spec_of_world = spec = model.spec
        self._check_world()
        self.reward: RewardName = reward or (DEFAULT_REWARD if spec.goals else "environment")
        self.obs_builder = ObservationBuilder(model, obs_type, goal_env)
        self.distance = GoalDistance(model, self.reward)
        self.observation_space = self.obs_builder.space
        if goal_env:
            self.compute_reward = goal_reward(self.reward)
        self.state: State = {}

    def _check_world(self) -> None:
        given, spec = self.env.observation_space, self.spec_of_world
        parts = given.spaces if isinstance(given, gym.spaces.Dict) else {next(iter(spec.observation.spaces)): given}
        wrong = [name for name, space in spec.observation.spaces.items() if _kind(parts.get(name)) != _kind(space)]
        if wrong or _kind(self.env.action_space) != _kind(spec.action):
            raise ValueError(
                f"env {self.env} has observations {given} and actions {self.env.action_space}; accepted by this world "
                f"model, which was fitted to {spec.name}: {spec.observation} and {spec.action}"
            )

    @insulated
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment and encodes its observation and its goal."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._start(obs)
        return self.observation(), self._info(info)

    @torch.inference_mode()
    def _start(self, obs: Any) -> None:
        """Encodes the first observation of an episode and its goal."""
        self._words = self._instruction(obs)
        self._rows = (
            {"words": torch.from_numpy(word_rows(self._sentence)[None].copy())} if self.obs_builder.words else {}
        )
        self.state = self.model.encode(self._model_input(obs))
        self._goal = self._vector = torch.zeros(1, 0)
        if self.spec_of_world.goals:
            words = {} if self._words is None else {"instruction": self._words}
            goal = self.model.encode(to_tensors(self.goal_observation | words, self.model.device))
            self._goal, self._vector = self.model.embedding(goal), self.distance.vector(goal)
        self._distance = self.distance(self.distance.vector(self.state), self._vector)

    @insulated
    @torch.inference_mode()
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps the environment and encodes its observation.

        Raises:
            ValueError: If the reward is "success", and the environment does not report success.
        """
        obs, own, terminated, truncated, info = self.env.step(action)
        if self.reward == "success" and success_of(info) is None:
            raise ValueError(
                f"reward='success': env {self.env} reports no success; accepted: an environment with "
                "info['is_success'] or info['success'], or another reward"
            )
        previous, expected = self._distance, None
        if getattr(self.model, "has_memory", False):
            given = check_action(action, self.spec_of_world.action)  # clipped, as environments do themselves
            expected, _ = self.model.step(self.state, torch.from_numpy(given[None]).to(self.model.device))
        self.state = self.model.encode(self._model_input(obs), expected)
        self._distance = self.distance(self.distance.vector(self.state), self._vector)
        true = {"success": bool(success_of(info)), "own": own}
        success, own = (torch.tensor([float(value)], dtype=torch.float32) for value in true.values())
        reward = rewards.reward(self.reward, previous, self._distance, success, own)
        return self.observation(), float(reward[0]), terminated, truncated, self._info(info)

    @property
    def true_observation(self) -> dict[str, np.ndarray]:
        """The environment's own current observation, by name."""
        return self._true

    @insulated
    @torch.inference_mode()
    def observation(self) -> Any:
        """Returns the current observation as `DreamEnv` gives it."""
        obs = to_numpy(
            self.obs_builder.build({**self.state, **self._rows}, self._goal if self.spec_of_world.goals else None)
        )
        if self.obs_builder.obs_type in ("pixels", "native"):  # the camera images, not decoded ones
            true = {name: value for name, value in self._true.items() if name in self.spec_of_world.observation.spaces}
            if not isinstance(obs, dict):
                return next(iter(true.values())).copy()
            return {name: true[name].copy() if name in true else part[0] for name, part in obs.items()}
        return {name: part[0] for name, part in obs.items()}

    @property
    @insulated
    def goal_observation(self) -> dict[str, np.ndarray]:
        """The observation of this episode's goal."""
        if self.env.has_wrapper_attr("goal_observation"):
            return self.env.get_wrapper_attr("goal_observation")
        if not self.env.has_wrapper_attr("goal_image"):
            raise ValueError(f"env {self.env} has no goal; accepted: an attribute `goal_observation` or `goal_image`")
        return {self.spec_of_world.pictures[0]: self.env.get_wrapper_attr("goal_image")}

    def get_state(self) -> dict[str, Any]:
        """Returns the result of the environment's own `get_state`."""
        return self.env.get_wrapper_attr("get_state")()

    @insulated
    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state that `get_state` returned. The memory of a model with memory starts empty."""
        self.env.get_wrapper_attr("set_state")(state)
        self._start(self.env.get_wrapper_attr("last_observation"))

    def _model_input(self, obs: Any) -> dict[str, torch.Tensor]:
        self._true = observe(obs)
        own = {name: self._true[name] for name in self.spec_of_world.observation.spaces}
        words = {} if self._words is None else {"instruction": self._words}
        return to_tensors({**own, **words}, self.model.device)

    def _instruction(self, obs: Any) -> np.ndarray | None:
        """Returns the instruction's embedding: by the model's own method, else the observed one, else by `embed`."""
        if not self.spec_of_world.instructions:
            return None
        observed = observe(obs).get("instruction")
        if observed is not None and not hasattr(self.model, "instruction"):
            return observed
        return embedder(self.model)(self._sentence)

    @property
    def _sentence(self) -> str:
        """The instruction given to the policy: the attribute `spoken` if there is one, else `task_description`."""
        return self.env.get_wrapper_attr("spoken" if self.env.has_wrapper_attr("spoken") else "task_description")

    def _info(self, own: dict[str, Any]) -> dict[str, Any]:
        """Adds to the environment's own info what `DreamEnv` tells."""
        success = success_of(own)
        info = {**own, **({} if success is None else {"is_success": bool(success)})}
        if not self.spec_of_world.goals:
            return info
        raw = rewards.distance(self.model.embedding(self.state), self._goal)
        learned = {"metric_distance": float(self._distance[0])} if self.distance.learned else {}
        return {**info, "distance": float(raw[0]), **learned}


def _kind(space: Any) -> Any:
    """Returns the properties in which two spaces have to agree."""
    if space is None:
        return None
    dtype = "float" if np.issubdtype(space.dtype, np.floating) else space.dtype  # encoded in single precision anyway
    return type(space), space.shape, dtype, getattr(space, "n", None)

"""Batched dreams with a tensor interface, for training that stays on one device such as a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from dream_env.checks import check_count
from dream_env.cuda_graph import Recorded
from dream_env.dream_config import DreamConfig
from dream_env.engine import Carry, DreamEngine, merge
from dream_env.world_models.protocol import State, take

Info = dict[str, Any]


class TensorDreams:
    """A batch of dreams as tensors on one device; tens of thousands can run in parallel.

    A step copies nothing to the host and never synchronizes with the device. Ended dreams are reset in the same step.
    On a GPU the first step is recorded as a CUDA graph that later steps replay, which removes the Python overhead that
    dominates small batches. With `differentiable=True` rewards have gradients with respect to all actions since the
    last `reset` or `detach`, so a policy can be trained by backpropagation through the dream (Hafner et al. 2020,
    "Dream to control", section 3):

        dreams = TensorDreams(256, differentiable=True)
        obs, _ = dreams.reset(seed=0)
        total = 0.0
        for _ in range(dreams.engine.horizon):
            obs, reward, *_ = dreams.step(policy(obs))
            total = total + reward.mean()
        (-total).backward()

    Actions outside the action space are clipped and get no gradient, so let the policy end in a tanh. The reward
    `success` has no gradient; `info["success_probability"]` has one.

    Args:
        num_envs: Number of dreams B.
        seed: Seed of the random generator. The same seed gives different numbers on a CPU and on a GPU.
        max_episode_steps: Another name of `horizon`; the shorter one counts.
        differentiable: True to keep the graph for gradients, except under `torch.no_grad`.
        capture: True to record steps as a CUDA graph; has no effect on a CPU or with `differentiable=True`. Set it to
            False for a custom world model whose methods synchronize with the device.
        **kwargs: As in `dream_env.dream.DreamEnv`, such as `task`, `reward`, `device`; not `goal_env`, `render_mode` or
            `obs_type="native"`.

    Raises:
        ValueError: If an argument is not accepted.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        seed: int = 0,
        max_episode_steps: int | None = None,
        differentiable: bool = False,
        capture: bool = True,
        **kwargs: Any,
    ) -> None:
        self.config = config = DreamConfig.of(kwargs)
        check_count("num_envs", num_envs)
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps, beside="None, ")
        if config.goal_env or config.render_mode or config.obs_type == "native":
            raise ValueError(
                f"goal_env={config.goal_env}, render_mode={config.render_mode}, obs_type={config.obs_type!r}; "
                "accepted: False, None, any obs_type except 'native'"
            )
        self.num_envs, self.differentiable = num_envs, differentiable
        self.engine = engine = DreamEngine(config, max_episode_steps or "spec")
        self.model, self.device = engine.model, engine.device
        self.single_observation_space: gym.Space = engine.obs_builder.space
        self.single_action_space: Any = engine.action_space
        states = engine.initial_states
        self._table = engine.begin(np.arange(len(states)))
        chances = np.cumsum(states.chances(config.task, config.middle_share)).clip(0, 1)
        self._below = torch.from_numpy(chances.astype(np.float32)).to(self.device)
        if engine.continuous:
            bounds = (getattr(self.single_action_space, name) for name in ("low", "high"))
            self._low, self._high = (torch.from_numpy(bound).to(self.device) for bound in bounds)
        self._generator = torch.Generator(self.device)
        self._seed(seed)
        captured = capture and not differentiable and self.device.type == "cuda"
        self._names = tuple(self._table)
        self._transition: Callable[..., tuple[Any, ...]] = Recorded(self._advance) if captured else self._advance
        self.reset()

    def reset(self, *, seed: int | None = None, start: Tensor | None = None) -> tuple[Any, Info]:
        """Resets all dreams.

        Args:
            seed: New seed of the random generator; None to continue with its current state.
            start: Rows of the initial states to start from, `(B,)`; None to draw them.

        Returns:
            The observations and an empty info.

        Raises:
            ValueError: If an argument is not accepted.
        """
        if seed is not None:
            self._seed(seed)
        self._carry = take(self._table, self._draw(self._uniform()) if start is None else self._check_rows(start))
        self._obs = self.engine.observe(self._carry)
        return self._obs, {}

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, Info]:
        """Predicts one control step of every dream; ended dreams are reset in the same step.

        Args:
            action: Actions on the dreams' device: floats `(B, A)`, clipped to the action space, or `(B,)` int64. They
                are not checked to be finite.

        Returns:
            Observations; rewards `(B,)`; terminated `(B,)`; truncated `(B,)`; and infos, which describe the state that
            the step led to, before any reset: `final_obs` (its observations) and the entries of `DreamEngine.info`.
        """
        shape = (self.num_envs, *self.single_action_space.shape)
        if not isinstance(action, Tensor) or action.shape != shape:
            kind = type(action).__name__
            given = f"has shape {tuple(action.shape)}" if isinstance(action, Tensor) else f"is a {kind}"
            raise ValueError(f"action {given}; accepted: {shape}, a tensor")
        if self.engine.continuous:
            action = torch.minimum(torch.maximum(action.to(torch.float32), self._low), self._high)
        noise = (self._uniform(self.model.noise_dim),) if self.config.temperature else ()
        parts = [self._carry[name] for name in self._names]
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            self._carry, obs, end, info = self._transition(*parts, action, self._uniform(), *noise)
        info["final_obs"], self._obs = end, obs
        return obs, info.pop("reward"), info.pop("terminated"), info.pop("truncated"), info

    @property
    def state(self) -> State:
        """The current latent states of all dreams."""
        return self.engine.state(self._carry)

    def detach(self) -> None:
        """Detaches the states: later rewards have no gradient with respect to earlier actions."""
        self._carry = {name: part.detach() for name, part in self._carry.items()}
        self._obs = {name: part.detach() for name, part in self._obs.items()}

    # --- internals

    def _seed(self, seed: int) -> None:
        check_count("seed", seed, 0, 2**64 - 1)
        self._generator.manual_seed(int(seed))

    def _uniform(self, *shape: int) -> Tensor:
        size = (self.num_envs, *shape)
        return torch.rand(size, generator=self._generator, device=self.device, dtype=torch.float32)

    def _draw(self, chance: Tensor) -> Tensor:
        return torch.searchsorted(self._below, chance, right=True).clamp_max(len(self._below) - 1)

    def _check_rows(self, start: Tensor) -> Tensor:
        """Returns rows of the initial states on the device, or raises ValueError; synchronizes with the device."""
        row, count = torch.as_tensor(start, device=self.device), len(self._below)
        whole = not row.dtype.is_floating_point and row.dtype is not torch.bool
        if row.shape != (self.num_envs,) or not whole or not bool(((row >= 0) & (row < count)).all()):
            raise ValueError(
                f"start={start}; accepted: ({self.num_envs},) rows of the initial states, 0 to {count - 1}"
            )
        return row

    def _advance(self, *parts: Tensor) -> tuple[Carry, Any, Any, Info]:
        """Advances every dream by one step and resets ended ones; uses only tensors, so that it can be captured."""
        count = len(self._names)
        carry, (action, chance, *noise) = dict(zip(self._names, parts[:count], strict=True)), parts[count:]
        now, info = self.engine.advance(carry, action, noise[0] if noise else None)
        ended = info["terminated"] | info["truncated"]
        after, end = {name: now[name] for name in self._names}, self.engine.observe(now, info.pop("embedding", None))
        if self.device.type == "cpu" and not ended.any():
            return after, {name: part.clone() for name, part in end.items()}, end, info
        # Draws for all rows: selecting the ended ones would synchronize with the host.
        after = merge(ended, take(self._table, self._draw(chance)), after)
        return after, self.engine.observe(after), end, info

"""Dreams for learners that live on a GPU: tensors in, tensors out, and nothing goes through the host in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env import contract, rewards
from dream_env.cuda_graph import Recorded
from dream_env.dream_config import DreamConfig
from dream_env.imagination import Dreams
from dream_env.nicol import constants
from dream_env.rewards import RewardName
from dream_env.world_models.legacy import LatentState

Obs = dict[str, Tensor]
Info = dict[str, Any]


class Carry(NamedTuple):
    """What a batch of dreams is from one step to the next."""

    tokens: Tensor
    """`(B, T, C)`."""
    proprio: Tensor
    """Set-points `(B, 4)`."""
    situation: Tensor
    """What the model keeps in numbers, `(B, R)`; R is 0 for one that keeps nothing."""
    span: Tensor
    """Distance to the goal that the reward measures, `(B,)`."""
    row: Tensor
    """Row of the bank that each dream started from, `(B,)`."""
    steps: Tensor
    """Steps since then, `(B,)`."""
    held: Tensor
    """Steps that the task's condition has held for, `(B,)`."""


class TensorDreams:
    """The dreams of `NicoLDreamVectorEnv` as tensors on one device, tens of thousands at a time.

    A step copies nothing to the host and never waits for the device; an ended dream starts anew in it. On a GPU the
    first step is recorded as a CUDA graph and later ones replay it, so a few hundred dreams do not wait for Python
    either. With `differentiable=True` rewards have gradients with respect to all actions since the last `reset` or
    `detach`, so a policy can be trained by backpropagation through the dream (Hafner et al. 2020, "Dream to control",
    section 3):

        dreams = TensorDreams(256, "push", differentiable=True)
        obs, _ = dreams.reset(seed=0)
        total = 0.0
        for _ in range(24):
            obs, reward, *_ = dreams.step(policy(obs))
            total = total + reward.mean()
        (-total).backward()

    Beyond [-1, 1] actions are clipped and have no gradient: let the policy end in a tanh. Of the rewards `success` has
    none, but `info["success_probability"]` has.

    Args:
        num_envs: Number of dreams B.
        task: As in `NicoLDreamEnv`.
        seed: Seed of all that is drawn; each kind of device draws other numbers from it.
        max_episode_steps: Steps after which an episode is truncated.
        differentiable: Keeps what gradients need, unless the caller forbids it by `torch.no_grad`.
        capture: Records steps as a CUDA graph, on a GPU and where no gradients are asked for. Turn it off for a world
            model of your own whose methods wait for the device.
        **kwargs: As in `NicoLDreamEnv`, such as `reward` and `device`; not `goal_env` and `render_mode`.

    Raises:
        ValueError: If an argument is not among the accepted ones.
    """

    def __init__(
        self,
        num_envs: int,
        task: str = "reach",
        *,
        seed: int = 0,
        max_episode_steps: int = constants.EPISODE_STEPS,
        differentiable: bool = False,
        capture: bool = True,
        **kwargs: Any,
    ) -> None:
        self.config = DreamConfig.of(task, kwargs)
        if min(num_envs, max_episode_steps) < 1 or self.config.goal_env or self.config.render_mode:
            raise ValueError(
                f"num_envs={num_envs}, max_episode_steps={max_episode_steps}, goal_env={self.config.goal_env}, "
                f"render_mode={self.config.render_mode}; accepted of tensors: at least 1, at least 1, False, None"
            )
        self.num_envs, self.max_episode_steps, self.differentiable = num_envs, max_episode_steps, differentiable
        self._dreams = Dreams(1, self.config)  # opens and checks what the configuration names
        self.model, self.device = self._dreams.model, self._dreams.device
        self.single_observation_space = self._dreams.observation_space
        self.single_action_space = contract.action_space()
        self._learned = rewards.is_learned(self.config.reward)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._tabulate()
        captured = capture and not differentiable and self.device.type == "cuda"
        advance = Recorded(self._advance) if captured else self._advance
        self._transition: Callable[..., tuple[Carry, Obs, Obs, Info]] = advance
        self.reset()

    @torch.no_grad()
    def _tabulate(self) -> None:
        """Lays every start of the bank on the device: state, words, goal, and the distance between them."""
        bank, model = self._dreams.bank, self.model
        rows = np.arange(len(bank))
        _, first, goal = np.unique(bank.goal, return_index=True, return_inverse=True)
        self._below = self._tensor(np.cumsum(chances(bank.task, bank.step, self.config)).clip(0, 1))
        self._starts = bank.states(model, rows)
        self._words, self._goal_of = self._tensor(bank.words(model, rows)), torch.from_numpy(goal).to(self.device)
        self._goals = bank.goals(model, first)
        self._marks = model.metric(self._goals) if self._learned else self._goals
        seen = model.embedding(self._starts)
        self._start_span = self._measure(model.metric(seen) if self._learned else seen, self._goal_of)
        self._step_size = self._tensor(constants.STEP)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, np.float32)).to(self.device)

    # --- what a learner calls

    def reset(self, *, seed: int | None = None, start: Tensor | None = None) -> tuple[Obs, Info]:
        """Starts every dream anew.

        Args:
            seed: Seed of all that is drawn from here on; None goes on drawing.
            start: Rows of the bank `(B,)` to start from; None draws them.
        """
        if seed is not None:
            self._generator.manual_seed(seed)
        row = self._draw(self._uniform()) if start is None else self._check_rows(start)
        self._carry = self._begin(row)
        self._obs = self._observe(self._carry)
        return self._obs, {}

    def step(self, action: Tensor) -> tuple[Obs, Tensor, Tensor, Tensor, Info]:
        """Predicts one control step of every dream; ended ones start anew.

        Args:
            action: `(B, 4)` of floats on the dreams' device; clipped to [-1, 1], and not checked to be finite.

        Returns:
            Observations; rewards `(B,)`; terminated `(B,)`, always False; truncated `(B,)`; and infos of the state that
            the step led to, before any new start: `final_obs` (the observations), `is_success`, `distance`,
            `success_probability`, and `metric_distance` and `disagreement` where `NicoLDreamEnv` has them.
        """
        if action.shape != (self.num_envs, len(constants.ACTION_NAMES)):
            raise ValueError(f"action has shape {tuple(action.shape)}; accepted: ({self.num_envs}, 4)")
        action = action.to(torch.float32)
        noise = (self._uniform(),) if self.config.temperature else ()
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            self._carry, obs, end, info = self._transition(*self._carry, action, self._uniform(), *noise)
        info["final_obs"], self._obs = self._obs | end, obs
        return obs, info.pop("reward"), info.pop("terminated"), info.pop("truncated"), info

    @property
    def state(self) -> LatentState:
        """The present states of all dreams."""
        return _state(*self._carry[:3])

    def detach(self) -> None:
        """Cuts the gradients here: what comes has none with respect to actions before."""
        self._carry = Carry(*(part.detach() for part in self._carry))
        self._obs = {name: part.detach() for name, part in self._obs.items()}

    # --- how it is done

    def _uniform(self) -> Tensor:
        return torch.rand(self.num_envs, generator=self._generator, device=self.device)

    def _draw(self, chance: Tensor) -> Tensor:
        return torch.searchsorted(self._below, chance, right=True)

    def _check_rows(self, start: Tensor) -> Tensor:
        """Returns rows of the bank on the device, or raises ValueError; this waits for the device."""
        row, count = torch.as_tensor(start, device=self.device), len(self._dreams.bank)
        whole = not row.dtype.is_floating_point and row.dtype is not torch.bool
        if row.shape != (self.num_envs,) or not whole or not bool(((row >= 0) & (row < count)).all()):
            raise ValueError(f"start={start}; accepted: ({self.num_envs},) rows of the bank, 0 to {count - 1}")
        return row

    def _begin(self, row: Tensor) -> Carry:
        """Starts dreams from rows of the bank `(B,)`."""
        start, nothing = self._starts.take(row), torch.zeros_like(row)
        return Carry(*_parts(start), self._start_span[row], row, nothing, nothing)

    def _advance(
        self,
        tokens: Tensor,
        proprio: Tensor,
        situation: Tensor,
        span: Tensor,
        row: Tensor,
        steps: Tensor,
        held: Tensor,
        action: Tensor,
        chance: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[Carry, Obs, Obs, Info]:
        """Takes every dream one step further, from what it is and what was drawn, and from nothing else.

        Returns:
            What the dreams are; the observations; those parts of the observations before any new start that the step
            has changed; and whatever else `step` tells, by name.
        """
        config, dreams, state = self.config, self._dreams, _state(tokens, proprio, situation)
        action = constants.to_delta(config.control, proprio, action.clamp(-1, 1), self._step_size)
        doubt = self.model.disagreement(state, action) if dreams.watches else None
        with config.computing(self.device):
            state = self.model.step(state, action, *(() if noise is None else (noise, config.temperature)))
        goal, words = self._goals[self._goal_of[row]], self._words[row]
        if self._learned:
            mark, probability = self.model.judge(state, goal, words)
        else:
            mark, probability = self.model.embedding(state), self.model.success(state, goal, words)
        previous, span = span, self._measure(mark, self._goal_of[row])
        held, steps = torch.where(probability >= dreams.threshold, held + 1, 0), steps + 1
        success, ended = held >= constants.HOLD_STEPS, steps >= self.max_episode_steps
        info: Info = {
            "reward": reward_of(config.reward, previous, span, success),
            "is_success": success,
            "distance": rewards.distance(self.model.embedding(state), goal),
            "success_probability": probability,
        }
        if self._learned:
            info["metric_distance"] = span
        if doubt is not None:
            info["disagreement"] = doubt
            info["reward"] = info["reward"] - config.disagreement_penalty * doubt
            if dreams.max_disagreement is not None:
                ended = ended | (doubt > dreams.max_disagreement)
        # For all rows alike, as choosing some asks the host.
        now, fresh = Carry(*_parts(state), span, row, steps, held), self._begin(self._draw(chance))
        carry = Carry(*(_choose(ended, *pair) for pair in zip(fresh, now, strict=True)))
        info |= {"terminated": torch.zeros_like(ended), "truncated": ended}
        return carry, self._observe(carry), self._see(state), info

    def _observe(self, carry: Carry) -> Obs:
        """Returns the observations of dreams."""
        goal = self._goals[self._goal_of[carry.row]].clamp(-contract.EMBEDDING_BOUND, contract.EMBEDDING_BOUND)
        seen = self._see(_state(*carry[:3]))
        return seen | {"goal": goal, "instruction": self._words[carry.row]}

    def _see(self, state: LatentState) -> Obs:
        """Returns the parts of the observation that a step changes."""
        embedding = self.model.embedding(state).clamp(-contract.EMBEDDING_BOUND, contract.EMBEDDING_BOUND)
        seen = {"embedding": embedding, "proprio": state.proprio.clone()}  # a learner may change what it is given
        return seen | ({"pixels": self.model.decode(state)} if self.config.obs_type == "pixels" else {})

    def _measure(self, mark: Tensor, goal: Tensor) -> Tensor:
        """Returns the distance `(B,)` to goals that the reward measures, of vectors of the metric or of embeddings."""
        if not self._learned:
            return rewards.distance(mark, self._marks[goal])
        gap = mark - self._marks[goal]
        return gap.square().sum(-1).clamp_min(1e-12).sqrt()  # the root of 0 has no gradient


def _state(tokens: Tensor, proprio: Tensor, situation: Tensor) -> LatentState:
    return LatentState(tokens, proprio, situation if situation.shape[1] else None)


def _parts(state: LatentState) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the parts of a state; a `Carry` has them all."""
    nothing = state.proprio[:, :0]
    return state.tokens, state.proprio, nothing if state.situation is None else state.situation


def _choose(ended: Tensor, fresh: Tensor, old: Tensor) -> Tensor:
    return torch.where(ended.view(-1, *[1] * (old.dim() - 1)), fresh, old)


def reward_of(name: RewardName, previous: Tensor, current: Tensor, success: Tensor) -> Tensor:
    """Gives `dream_env.contract.reward` of tensors, on their device and with gradients."""
    if name == "success":
        return success.float()
    if name in ("energy", "metric"):
        return -current
    if name in ("progress", "metric_progress"):
        return previous - current
    return torch.exp(-current / (rewards.METRIC_SCALE if rewards.is_learned(name) else rewards.BOUNDED_SCALE))


def chances(task: np.ndarray, step: np.ndarray, config: DreamConfig) -> np.ndarray:
    """Returns the probability `(N,)` that a dream starts from each row of a bank, from their tasks and steps `(N,)`.

    Tasks are alike likely, within a task starts and mid-episode states have their shares, and among those all rows are.
    """
    chance = np.zeros(len(task))
    for name in np.unique(task) if config.task == "all" else [config.task]:
        for rows, share in ((step == 0, 1 - config.middle_share), (step > 0, config.middle_share)):
            own = rows & (task == name)
            chance[own] = share / max(1, own.sum())
    return chance / chance.sum()

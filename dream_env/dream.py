"""`Dream-v0`: a learned world model as a Gymnasium environment, single and vectorized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dream_env.batch import DreamBatch
from dream_env.checks import (
    check_action,
    check_actions,
    check_choice,
    check_number,
    check_options,
    check_seed,
    check_seeds,
)
from dream_env.dream_config import DreamConfig
from dream_env.rewards import goal_reward

Obs = Any
Info = dict[str, Any]
GoalReward = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]


class DreamEnv(gym.Env[Obs, Any]):
    """A learned world model as an environment: its simulator is a network.

    ## Description
    A state is what the world model's encoder makes of a recorded observation, and a step is one pass through the model.
    Spaces, length of an episode, sentences and goals are those of the world that it was fitted to (its `spec`). Weights
    and recorded states are loaded once per process and shared by all environments.

    ## Action Space
    That of the world.

    ## Observation Space
    With `obs_type="embedding"` a flat `Dict` of float32 boxes:

    | key | shape | meaning |
    |---|---|---|
    | `embedding` | (E,) | embedding of the predicted state |
    | `goal` | (E,) | embedding of the goal's observation, in a world with goals |
    | `instruction` | (64,) | embedding of the sentence, in a world with sentences |
    | the model's `observed` | (n,) | vectors that the model predicts exactly, such as proprioception |

    With "words" the sentence word by word beside these; with "state" that, and what else of its state the model goes on
    from, for planners; with "pixels" the decoder's pictures; with "native" what the real environment shows, decoded, so
    that a policy needs no wrapper there.

    ## Rewards
    | `reward` | meaning |
    |---|---|
    | `energy` | minus the mean squared distance between embedding and goal; the default in a world with goals |
    | `bounded` | exp(-distance / 0.4) |
    | `progress` | the decrease of the distance in this step |
    | `metric`, `metric_bounded`, `metric_progress` | the same of a learned distance in control steps, with scale 4 |
    | `success` | 1 while the predicted success holds |
    | `environment` | the environment's own, as predicted; the default in a world without goals |

    ## Starting State
    A recorded start, with its goal and sentence. With `starts="any"` 40 % of the dreams begin with a recorded
    mid-episode state.

    ## Episode End
    Terminated where the world model predicts it. Truncated after the world's horizon, or where the ensemble disagrees
    by more than `max_disagreement`. `info["is_success"]` tells whether the predicted condition has held for the world's
    `hold_steps`; its value at the end of an episode counts. The other infos are `distance`, `success_probability`,
    `metric_distance` and `disagreement`, as far as the world has a goal and the model tells.

    ## Arguments
    * `world_model`: "default", a checkpoint folder, or an object with the protocol of
      `dream_env.world_models.protocol`.
    * `task`: one of the tasks of the initial states, or "all" for a random one in each episode.
    * `obs_type`: "embedding", "words", "state", "pixels" or "native", see above.
    * `reward`: a name from the table above; None for the world's default.
    * `goal_env`: observation / achieved_goal / desired_goal form with `compute_reward`, for hindsight replay; takes the
      rewards "energy" and "bounded".
    * `initial_states`: None for the checkpoint's `initial_states.npz` (the default's for an object), a file, or an
      `InitialStates`.
    * `starts`: "episode", "any", or the share of mid-episode states in [0, 1].
    * `disagreement_penalty`: weight with which the ensemble's disagreement is taken off the reward.
    * `max_disagreement`: disagreement at which an episode is truncated; "calibrated" for the world model's own
      threshold, None for never.
    * `temperature`: how far noise leads from what is likeliest: at 1 (default) as the world model believes, at 0 the
      likeliest always happens (Ha & Schmidhuber 2018, section 4).
    * `precision`: "float32" (default), or "bfloat16" for the model's products: faster for batches where the processor
      has instructions for it (avx512_bf16, amx), slower elsewhere and for single environments.
    * `compile`: puts the world model through `torch.compile`, which takes a minute or two and a C++ compiler.
    * `device`: device of a world model that is named, "cpu" or "cuda".
    * `render_mode`: None, or "rgb_array" for the decoder's picture, enlarged.

    `reset(options=...)` takes `task`; `instruction`, a sentence; `start`, a row of the initial states; `observation`, a
    dict of the parts of one; and `goal`, the goal's. They replace what is drawn.

    ## Vectorized environment
    `gymnasium.make_vec("Dream-v0", num_envs=256, ...)` makes a `DreamVectorEnv`: the same dreams, moved by one forward
    pass. Its row i equals this environment reset with seed + i, up to rounding.

    ## Version History
    * v0: initial version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    batch_class = DreamBatch
    compute_reward: GoalReward
    """Only a goal env has it: learners take its presence for the form of the observation."""

    def __init__(self, **kwargs: Any) -> None:
        self.config = DreamConfig.of(kwargs)
        self.render_mode = self.config.render_mode
        self.dreams = self.batch_class(1, self.config, "spec")
        self.world_spec = self.dreams.engine.spec
        self._max_episode_steps = self.world_spec.horizon  # where LeRobot looks for the length of an episode
        if self.world_spec.control_hz:
            self.metadata = {**self.metadata, "render_fps": self.world_spec.control_hz}
        self.observation_space, self.action_space = self.dreams.engine.form.space, self.world_spec.action
        if self.config.goal_env:
            self.compute_reward = goal_reward(self.dreams.engine.reward)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, Info]:
        """Draws a recorded start and returns the first observation.

        Raises:
            ValueError: If an option is unknown, or has another shape or type than accepted.
        """
        super().reset(seed=check_seed(seed))
        self.dreams.restart(np.zeros(1, int), self.np_random.random(1), check_options(options, self.dreams.OPTIONS))
        return self._one(self.dreams.observation()), self._info()

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, Info]:
        """Predicts one control step.

        Raises:
            ValueError: If the action is not one of the action space, or not finite.
            ResetNeeded: Before the first reset, and after `close`.
        """
        dreams = self.dreams
        dreams.check_running()
        noise = dreams.noise([self.np_random])
        result = dreams.step(check_action(action, self.action_space)[None], noise)
        ends = bool(result["terminated"][0]), bool(result["truncated"][0])
        return self._one(dreams.observation()), float(result["reward"][0]), *ends, self._info()

    def render(self) -> np.ndarray | None:
        """Returns the decoder's picture `(H, W, 3)` uint8, or None without a render mode."""
        return None if self.render_mode is None else self.dreams.frames()[0]

    def close(self) -> None:
        """Ends the episode; a reset begins another one."""
        self.dreams.close()

    @property
    def task(self) -> str:
        """The task of the episodes, or "all"; may be changed for those to come."""
        return self.dreams.task

    @task.setter
    def task(self, task: str) -> None:
        self.dreams.set_task(task)

    @property
    def instruction(self) -> str:
        """The sentence of this episode."""
        return str(self.dreams.instruction[0])

    @property
    def task_description(self) -> str:
        """The sentence of this episode, by the name that LeRobot looks for."""
        return self.instruction

    @property
    def task_name(self) -> str:
        """The task of this episode."""
        return str(self.dreams.task_name[0])

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns all that `set_state` needs to go on from here, by new noise; a wrapper's step count is not in it."""
        return self.dreams.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state of `get_state`, of this env or of another with the same world model.

        Raises:
            ValueError: If it is no such state; the episode in hand goes on.
        """
        self.dreams.set_state(state)

    def _one(self, obs: Obs) -> Obs:
        return {name: part[0] for name, part in obs.items()} if isinstance(obs, dict) else obs[0]

    def _info(self) -> Info:
        return {name: batch[0].item() for name, batch in self.dreams.info().items()}


class DreamVectorEnv(VectorEnv[Obs, Any, Any]):
    """Many dreams moved by one forward pass, see `DreamEnv`.

    Env i draws from a generator of its own, seeded with seed + i, so it equals the single environment with that seed,
    up to rounding; the same seed and number of dreams repeat exactly.

    Args:
        num_envs: Number of dreams.
        max_episode_steps: Steps after which an episode is truncated; None takes the world's own.
        autoreset_mode: When an ended dream starts anew: in the same step (default; `info["final_obs"]` and
            `info["final_info"]` hold the end), in the next one, or by `reset(options={"reset_mask": ...})`.
        **kwargs: As in `DreamEnv`.
    """

    metadata = {**DreamEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
    batch_class = DreamBatch
    compute_reward: GoalReward
    """Only a goal env has it."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        **kwargs: Any,
    ) -> None:
        check_number("num_envs", num_envs, 1, 1_000_000)
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, beside="None, ")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [m.value for m in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.config = DreamConfig.of(kwargs)
        self.num_envs, self.render_mode = int(num_envs), self.config.render_mode
        self.dreams = self.batch_class(self.num_envs, self.config, max_episode_steps or "spec")
        self.world_spec = self.dreams.engine.spec
        rate = self.world_spec.control_hz or self.metadata["render_fps"]
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode, "render_fps": rate}
        self.single_observation_space = self.dreams.engine.form.space
        self.single_action_space = self.world_spec.action
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        if self.config.goal_env:
            self.compute_reward = goal_reward(self.dreams.engine.reward)
        self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self._ended = np.zeros(self.num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Obs, Info]:
        """Starts every dream anew, or those of `options["reset_mask"]` `(num_envs,)` bool.

        Args:
            seed: Seed of env 0 (env i takes seed + i), a seed for each env, or None to go on drawing.
            options: As in `DreamEnv`, for every dream that starts; `start` and `instruction` may hold one for each.
        """
        seeds = check_seeds(seed, self.num_envs)
        super().reset(seed=seeds[0])
        options = check_options(options, (*self.dreams.OPTIONS, "reset_mask"))
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask={mask}; accepted: ({self.num_envs},) bool, not all False")
        index = np.flatnonzero(mask)
        for i in index.tolist():
            if (own := seeds[i]) is not None:
                self._generators[i] = seeding.np_random(own)[0]
        self._restart(index, options)
        return self.dreams.observation(), _with_masks(self.dreams.info(), mask)

    def step(self, actions: Any) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Predicts one control step of every dream; an ended one starts anew as `autoreset_mode` says.

        Raises:
            ValueError: If the actions are not of the action space, or not finite.
            ResetNeeded: Before the first reset, and after `close`.
        """
        dreams, mode, before = self.dreams, self.autoreset_mode, self._ended
        dreams.check_running()
        if mode is AutoresetMode.DISABLED and before.any():
            raise ResetNeeded(f"dreams {np.flatnonzero(before)} have ended; reset them by reset_mask")
        given = check_actions(actions, self.single_action_space, self.num_envs)
        result = dreams.step(given, dreams.noise(self._generators, ~before))
        reward, terminated, truncated = (result[name] for name in ("reward", "terminated", "truncated"))
        final: Info = {}
        self._ended = terminated | truncated
        if mode is AutoresetMode.NEXT_STEP and before.any():
            self._ended = self._ended & ~before
            terminated, truncated = terminated & ~before, truncated & ~before
            self._restart(np.flatnonzero(before))
            reward[before] = 0.0
        elif mode is AutoresetMode.SAME_STEP and self._ended.any():
            final = self._final(self._ended.copy())
            self._restart(np.flatnonzero(self._ended))
        infos = _with_masks(dreams.info(), np.ones(self.num_envs, bool)) | final
        return dreams.observation(), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns the decoder's pictures `(H, W, 3)` uint8, or None without a render mode."""
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the episodes."""
        self.dreams.close()

    @property
    def task(self) -> str:
        """The task of the episodes, or "all"; may be changed for those to come."""
        return self.dreams.task

    @task.setter
    def task(self, task: str) -> None:
        self.dreams.set_task(task)

    @property
    def max_episode_steps(self) -> Any:
        """Steps after which an episode is truncated."""
        return self.dreams.engine.horizon

    @property
    def instruction(self) -> tuple[str, ...]:
        """The sentences of the current episodes."""
        return tuple(self.dreams.instruction)

    @property
    def task_description(self) -> tuple[str, ...]:
        """The sentences of the current episodes."""
        return self.instruction

    @property
    def task_name(self) -> tuple[str, ...]:
        """The tasks of the current episodes."""
        return tuple(self.dreams.task_name)

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns all that `set_state` needs to go on from here, by new noise: generators are not in it."""
        return {**self.dreams.get_state(), "ended": self._ended.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state of `get_state`, of this env or of another with the same world model.

        Raises:
            ValueError: If it is no such state; the episodes in hand go on.
        """
        given = dict(state)
        ended = np.asarray(given.pop("ended", None))
        if ended.shape != (self.num_envs,) or ended.dtype != bool:
            raise ValueError(f"state['ended'] is {ended.dtype} {ended.shape}; accepted: ({self.num_envs},) bool")
        self.dreams.set_state(given)
        self._ended = ended.copy()

    def _restart(self, index: np.ndarray, options: dict[str, Any] | None = None) -> None:
        chance = np.array([self._generators[i].random() for i in index])
        self.dreams.restart(index, chance, options or {})
        self._ended[index] = False

    def _final(self, ended: np.ndarray) -> Info:
        """Returns last observations and infos of the ended dreams, as Gymnasium's vector envs give them."""
        batch, obs = self.dreams.observation(), np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            obs[i] = {name: part[i] for name, part in batch.items()} if isinstance(batch, dict) else batch[i]
        infos = self.dreams.info()
        for rows in infos.values():
            rows[~ended] = 0
        return _with_masks({"final_obs": obs, "final_info": _with_masks(infos, ended)}, ended)


def _with_masks(infos: Info, given: np.ndarray) -> Info:
    """Adds the mask `_key` of every key: which dreams have this info."""
    return infos | {f"_{name}": given.copy() for name in infos}

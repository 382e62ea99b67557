"""`Dream-v0`: a learned world model as a Gymnasium environment, single and vectorized."""

from __future__ import annotations

import copy
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
    check_count,
    check_options,
    check_seed,
    check_seeds,
)
from dream_env.dream_config import DreamConfig
from dream_env.rewards import goal_reward
from dream_env.spec import WorldSpec

Obs = Any
Info = dict[str, Any]
GoalReward = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]


class DreamEnv(gym.Env[Obs, Any]):
    """An environment that is simulated by a learned world model.

    ## Description
    `reset` encodes a recorded observation into a latent state; `step` is one forward pass of the world model. The
    spaces, the time limit, and whether there are instructions and goals come from the world model's `spec`, which
    describes the environment it was fitted to (the "world" below). Weights and recorded states are loaded once per
    process and shared by all environments.

    ## Action Space
    The action space of the world: a `Box` vector or `Discrete`.

    ## Observation Space
    With `obs_type="embedding"`, a flat `Dict` of float32 boxes:

    | key | shape | meaning |
    |---|---|---|
    | `embedding` | (E,) | embedding of the predicted state |
    | `goal` | (E,) | goal embedding: that of an observation of the goal; only in a world with goals |
    | `instruction` | (64,) | embedding of the language instruction; only in a world with instructions |
    | names in the model's `observed` | (n,) | vectors that the model predicts directly, such as proprioception |

    The other values of `obs_type`:

    * "words": adds `words`, the instruction word by word.
    * "state": as "words", plus the remaining entries of the latent state that the model needs to continue from this
      observation. Planners use it.
    * "pixels": as "embedding", plus the decoded images.
    * "native": the observation of the real environment, decoded, so that a policy needs no wrapper in the real one.

    ## Rewards
    | `reward` | meaning |
    |---|---|
    | `energy` | minus the mean squared distance between embedding and goal; the default in a world with goals |
    | `bounded` | exp(-distance / 0.4) |
    | `progress` | decrease of the distance in this step |
    | `metric`, `metric_bounded`, `metric_progress` | the same with a learned distance in control steps; scale 4 |
    | `success` | 1 while `info["is_success"]` is True, else 0; only if the model predicts success |
    | `environment` | the environment's own reward, if predicted; the default in a world without goals |

    ## Starting State
    The recorded first observation of an episode, with its goal and instruction. With `starts="any"`, 40 % of the
    episodes start from a recorded mid-episode state.

    ## Episode End
    The episode terminates when the world model predicts termination. It is truncated after `horizon` steps, or when
    the ensemble's disagreement exceeds `max_disagreement`. `info["is_success"]` is True when success has been predicted
    for the last `hold_steps` steps; the value at the end of the episode decides. Without such a prediction there is no
    such entry. `info` may also have `distance`, `success_probability`, `metric_distance`, `disagreement`.

    ## Arguments
    * `world_model`: "default", a checkpoint folder, or an object that implements
      `dream_env.world_models.protocol.WorldModel`.
    * `task`: task name from the initial states, or "all" to draw a task in every episode.
    * `obs_type`: "embedding", "words", "state", "pixels" or "native", see above.
    * `reward`: name from the table above; None for the world's default.
    * `horizon`: steps after which an episode is truncated, shorter or longer than the world's own time limit; None for
      the latter. `max_episode_steps` of `gymnasium.make` can only shorten it: Gymnasium does not pass it on.
    * `goal_env`: True for observations with `observation`, `achieved_goal` and `desired_goal`, and a `compute_reward`
      method, for hindsight relabelling. Requires the reward "energy" or "bounded".
    * `initial_states`: `.npz` file or `InitialStates` object of the same world. None for the checkpoint's
      `initial_states.npz`; needed if `world_model` is an object, except of the world of the default checkpoint.
    * `starts`: "episode" (episode starts only), "any", or the share of mid-episode states in [0, 1].
    * `disagreement_penalty`: weight of the ensemble's disagreement, which is subtracted from the reward.
    * `max_disagreement`: disagreement above which an episode is truncated; "calibrated" for the threshold stored in
      the world model, None for never.
    * `temperature`: scales the effect of the noise. At 1 (default) outcomes follow the distribution that the world
      model predicts, at 0 the most likely outcome always happens (Ha & Schmidhuber 2018, section 4).
    * `precision`: "float32" (default), or "bfloat16" for the model's matrix products. The latter is faster for batches
      on processors with bfloat16 instructions (avx512_bf16, amx), and slower elsewhere and for single environments.
    * `compile`: True to compile the world model with `torch.compile`. This takes a minute or two and needs a C++
      compiler.
    * `device`: "cpu" or "cuda"; where a world model given by name or folder is loaded.
    * `render_mode`: None, or "rgb_array" for the enlarged decoded image in a world with pictures.

    `reset(options=...)` accepts `task`; `instruction`, a text; `start`, a row of the initial states; `observation`, a
    dict with the parts of an observation; and `goal`, a dict with the parts of a goal observation. Each replaces what
    would be drawn.

    ## Vectorized environment
    `gymnasium.make_vec("Dream-v0", num_envs=256, ...)` returns a `DreamVectorEnv`, which advances all environments with
    one forward pass. Row i equals this environment reset with seed + i, up to rounding.

    ## Version History
    * v0: initial version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    batch_class = DreamBatch
    vector_class: type[DreamVectorEnv]
    """The vectorized form of this class."""
    compute_reward: GoalReward
    """Defined only with `goal_env=True`: RL libraries detect a goal environment by this attribute."""

    def __init__(self, **kwargs: Any) -> None:
        self.config = DreamConfig.of(kwargs)
        self.render_mode = self.config.render_mode
        self.dreams = self.batch_class(1, self.config, "spec")
        engine = self.dreams.engine
        self.world_spec, self._max_episode_steps = engine.spec, engine.horizon  # LeRobot reads the latter
        self.metadata = _metadata(self.metadata, self.world_spec)
        self.observation_space, self.action_space = engine.obs_builder.space, engine.action_space
        if self.config.goal_env:
            self.compute_reward = goal_reward(engine.reward)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, Info]:
        """Starts an episode from a recorded state and returns the first observation.

        Raises:
            ValueError: If an option is unknown, or its value has the wrong shape or type. The episode is then kept.
        """
        seed, options = check_seed(seed), check_options(options, self.dreams.OPTIONS)
        rng = copy.deepcopy(self.np_random) if seed is None else seeding.np_random(seed)[0]
        self.dreams.restart(np.zeros(1, int), rng.random(1), options)
        super().reset(seed=seed)
        self.np_random.bit_generator.state = rng.bit_generator.state
        return self._one(self.dreams.observation()), self._info()

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, Info]:
        """Predicts one control step.

        Raises:
            ValueError: If the action has the wrong shape or type, or is not finite.
            ResetNeeded: Before the first reset, and after `close`.
        """
        dreams = self.dreams
        dreams.check_running()
        result = dreams.step(check_action(action, self.action_space)[None], dreams.noise([self.np_random]))
        ends = bool(result["terminated"][0]), bool(result["truncated"][0])
        return self._one(dreams.observation()), float(result["reward"][0]), *ends, self._info()

    def render(self) -> np.ndarray | None:
        """Returns the decoded image `(H, W, 3)` uint8; None if `render_mode` is None."""
        return None if self.render_mode is None else self.dreams.frames()[0]

    def close(self) -> None:
        """Ends the episode. `reset` may be called again afterwards."""
        self.dreams.close()

    @property
    def task(self) -> str:
        """The task of the episodes, or "all". Setting it takes effect at the next reset."""
        return self.dreams.task

    @task.setter
    def task(self, task: str) -> None:
        self.dreams.set_task(task)

    @property
    def instruction(self) -> str:
        """The instruction of this episode."""
        return str(self.dreams.instruction[0])

    @property
    def task_description(self) -> str:
        """The instruction of this episode, under the name that LeRobot reads."""
        return self.instruction

    @property
    def task_name(self) -> str:
        """The task of this episode."""
        return str(self.dreams.task_name[0])

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the simulation state for `set_state`, without random generators and the step counts of wrappers."""
        return self.dreams.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `get_state` of this or another env with the same world model returned.

        Raises:
            ValueError: If the state does not fit this env. The running episode is not affected.
        """
        self.dreams.set_state(state)

    def _one(self, obs: Obs) -> Obs:
        return {name: part[0] for name, part in obs.items()} if isinstance(obs, dict) else obs[0]

    def _info(self) -> Info:
        return {name: batch[0].item() for name, batch in self.dreams.info().items()}


class DreamVectorEnv(VectorEnv[Obs, Any, Any]):
    """Vectorized `DreamEnv`: advances all environments with one forward pass.

    Env i has its own random generator, seeded with seed + i, so it equals the single environment with that seed, up to
    rounding. The same seed and number of environments reproduce a run exactly.

    Args:
        num_envs: Number of environments.
        max_episode_steps: Another name of `horizon`; the shorter one counts.
        autoreset_mode: When an env whose episode has ended is reset: in the same step (default; `info["final_obs"]` and
            `info["final_info"]` hold the end of the episode), in the next step, or only by
            `reset(options={"reset_mask": ...})`.
        **kwargs: As in `DreamEnv`.
    """

    metadata = {**DreamEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
    batch_class = DreamBatch
    compute_reward: GoalReward
    """Defined only with `goal_env=True`."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        **kwargs: Any,
    ) -> None:
        check_count("num_envs", num_envs, 1, 1_000_000)
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps, beside="None, ")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [m.value for m in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.config = DreamConfig.of(kwargs)
        self.num_envs, self.render_mode = int(num_envs), self.config.render_mode
        self.dreams = self.batch_class(self.num_envs, self.config, max_episode_steps or "spec")
        self.world_spec = self.dreams.engine.spec
        self.metadata = {**_metadata(self.metadata, self.world_spec), "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.dreams.engine.obs_builder.space
        self.single_action_space = self.dreams.engine.action_space
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
        """Resets all environments, or those selected by the mask `options["reset_mask"]`, `(num_envs,)` bool.

        Args:
            seed: Seed of env 0 (env i gets seed + i), one seed per env, or None to continue with the current
                generators.
            options: As in `DreamEnv`, applied to every env that is reset; `start` and `instruction` may also hold one
                value per reset env.
        """
        seeds = check_seeds(seed, self.num_envs)
        options = check_options(options, (*self.dreams.OPTIONS, "reset_mask"))
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask={mask}; accepted: ({self.num_envs},) bool, not all False")
        index = np.flatnonzero(mask)
        drawn = list(self._generators)
        for i in index.tolist():
            drawn[i] = copy.deepcopy(drawn[i]) if (s := seeds[i]) is None else seeding.np_random(s)[0]
        self._restart(index, drawn, options)
        super().reset(seed=seeds[0])
        self._generators, self.closed = drawn, False  # `close` may be called again
        return self.dreams.observation(), _with_masks(self.dreams.info(), mask)

    def step(self, actions: Any) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Predicts one control step in every environment; ended episodes are reset according to `autoreset_mode`.

        Raises:
            ValueError: If the actions have the wrong shape or type, or are not finite.
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
            self._restart(np.flatnonzero(before), self._generators, {})
            reward[before] = 0.0
        elif mode is AutoresetMode.SAME_STEP and self._ended.any():
            final = self._final(self._ended.copy())
            self._restart(np.flatnonzero(self._ended), self._generators, {})
        infos = _with_masks(dreams.info(), np.ones(self.num_envs, bool)) | final
        return dreams.observation(), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns one decoded image `(H, W, 3)` uint8 per environment; None if `render_mode` is None."""
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the episodes."""
        self.dreams.close()

    @property
    def task(self) -> str:
        """The task of the episodes, or "all". Setting it takes effect in the episodes that start afterwards."""
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
        """The instructions of the current episodes."""
        return tuple(self.dreams.instruction)

    @property
    def task_description(self) -> tuple[str, ...]:
        """The instructions of the current episodes, under the name that LeRobot reads."""
        return self.instruction

    @property
    def task_name(self) -> tuple[str, ...]:
        """The tasks of the current episodes."""
        return tuple(self.dreams.task_name)

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the simulation state for `set_state`, without the random generators."""
        return {**self.dreams.get_state(), "ended": self._ended.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `get_state` of this or another env with the same world model returned.

        Raises:
            ValueError: If the state does not fit this env. The running episodes are not affected.
        """
        given = dict(state)
        ended = np.asarray(given.pop("ended", None))
        if ended.shape != (self.num_envs,) or ended.dtype != bool:
            raise ValueError(f"state['ended'] is {ended.dtype} {ended.shape}; accepted: ({self.num_envs},) bool")
        self.dreams.set_state(given)
        self._ended = ended.copy()

    def _restart(self, index: np.ndarray, rngs: list[np.random.Generator], options: dict[str, Any]) -> None:
        self.dreams.restart(index, np.array([rngs[i].random() for i in index]), options)
        self._ended[index] = False

    def _final(self, ended: np.ndarray) -> Info:
        """Returns `final_obs` and `final_info` of the ended episodes in the form of Gymnasium's vector environments."""
        batch, obs = self.dreams.observation(), np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            obs[i] = {name: part[i] for name, part in batch.items()} if isinstance(batch, dict) else batch[i]
        infos = self.dreams.info()
        for rows in infos.values():
            rows[~ended] = 0
        return _with_masks({"final_obs": obs, "final_info": _with_masks(infos, ended)}, ended)


DreamEnv.vector_class = DreamVectorEnv


def _metadata(known: dict[str, Any], spec: WorldSpec) -> dict[str, Any]:
    """Returns the metadata of a world: its control rate, and no render modes without pictures."""
    modes = known["render_modes"] if spec.pictures else []
    return {**known, "render_modes": modes, "render_fps": spec.control_hz or known["render_fps"]}


def _with_masks(infos: Info, given: np.ndarray) -> Info:
    """Adds for every key the mask `_key` of the environments that have this info, as Gymnasium does."""
    return infos | {f"_{name}": given.copy() for name in infos}

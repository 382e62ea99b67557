"""`NicoLDream-v0`: NICOL at its table inside a learned world model, as a single and as a vector environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dream_env import checks, contract, rewards
from dream_env.dream_config import DreamConfig
from dream_env.imagination import DRAWS, Dreams
from dream_env.nicol import constants

Obs = dict[str, Any]
Info = dict[str, Any]
GoalReward = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]


class NicoLDreamEnv(gym.Env[Obs, np.ndarray]):
    """NICOL at its table, inside a learned world model.

    ## Description
    The twin of `NicoLReal-v0` without physics: a state is a map of tokens that the world model's
    encoder makes of a recorded picture, and a step is one pass through its predictor. Three 5 cm
    cubes lie on the table, and an instruction names one of them: hold the hand above it (`reach`),
    push it over the tape line (`push`), or lift it (`lift`). Weights and recorded starts are loaded
    once per process and shared by all environments.

    ## Action Space
    `Box(-1, 1, (4,), float32)`, at 10 Hz; x points away from the robot, y to its left, z up.

    | index | meaning | unit of 1.0 |
    |---|---|---|
    | 0, 1, 2 | displacement of the grasp point along x, y, z | 4 cm |
    | 3 | closing of the hand (+) or opening (-) | a quarter of the whole way |

    ## Observation Space
    A flat `Dict` of float32 boxes, the same as in `NicoLReal-v0`.

    | key | shape | meaning |
    |---|---|---|
    | `embedding` | (1024,) | the predicted state, 64 tokens x 16 channels |
    | `goal` | (1024,) | the goal picture through the world model's encoder |
    | `proprio` | (4,) | the controller's set-point: grasp point and closing, normalized |
    | `instruction` | (64,) | embedding of the sentence |
    | `pixels` | (64, 64, 3) uint8 | the decoder's picture, with `obs_type="pixels"` |

    ## Rewards
    | `reward` | meaning |
    |---|---|
    | `energy` | minus the mean squared distance between embedding and goal |
    | `progress` | its decrease in this step |
    | `bounded` | exp(-distance / 0.4) |
    | `metric` | minus the learned distance: control steps to the goal, told from where hand and cubes are |
    | `metric_progress` | its decrease in this step |
    | `metric_bounded` | exp(-learned distance / 4) |
    | `success` | 1 while the predicted success holds |

    The raw distance sees the arm more than the cubes and is flat far from the goal; the learned one follows the true
    progress of all tasks: `python -m agents.studies.reward_audit` measures both, see `results/rewards.md`. Where hand and cubes are is
    what the dream keeps of them, and read off the goal picture. A goal env reads both embeddings, and takes the rewards
    that can be told from two of them: `energy`, `bounded`, `metric`, `metric_bounded`.

    ## Starting State
    A recorded start, with its goal picture and instruction, drawn from the start bank. With
    `starts="any"` 40 % of the starts are recorded mid-episode states.

    ## Episode End
    Truncated after 24 steps (by the `TimeLimit` wrapper that `gymnasium.make` adds), or when the
    predictor's ensemble disagrees by more than `max_disagreement`; never terminated.
    `info["is_success"]` tells whether the predicted condition has held for the last 3 steps; its
    value at the end of the episode counts. The other infos are `distance` (the raw one),
    `success_probability` (of this step), `metric_distance` with a learned reward, and `disagreement`
    if one of its arguments is set.

    ## Arguments
    * `task`: "reach", "push", "lift" (what the start bank holds), or "all" for a random one in each
      episode.
    * `obs_type`: "embedding", or "pixels" to add the picture.
    * `reward`: a name from the table above; `dream_env.contract.DEFAULT_REWARD` by default.
    * `goal_env`: observation / achieved_goal / desired_goal form with `compute_reward`, for
      hindsight replay.
    * `world_model`: "default", a checkpoint folder, or an object with the protocol of
      `dream_env.world_models.legacy`.
    * `bank`: None for the checkpoint's `bank.npz` (the default's for an object), a file, or a
      `InitialStates`.
    * `starts`: "episode", "any", or the share of mid-episode starts in [0, 1].
    * `control`: "delta" as above, or "position" where an action names the set-point itself,
      approached one step at a time.
    * `disagreement_penalty`: weight with which the ensemble's disagreement is taken off the reward.
    * `max_disagreement`: disagreement at which an episode is truncated; "calibrated" for the
      world model's own threshold (the 99.9th percentile along held-out episodes), None for never.
    * `temperature`: how much noise decides what could go either way, such as whether a cube slips out of the hand: at 1
      (default) as often as the world model believes, at 0 what is likeliest always happens.
    * `precision`: "float32" (default), or "bfloat16" for the predictor's products: faster for batches where the
      processor has instructions for it (avx512_bf16, amx), slower elsewhere and for single environments.
    * `compile`: puts the world model through `torch.compile`: twice as fast on a GPU, no gain on two cores. The first
      steps take a minute or two to compile (less when torch has done it before) and need a C++ compiler. Dreams differ
      in their last bits.
    * `device`: device of a world model that is named, "cpu" or "cuda".
    * `render_mode`: None, or "rgb_array" for the decoder's picture at 256 x 256.

    `reset(options=...)` takes `task`, `instruction` (a sentence), `start` (a row of the start bank, of that task),
    `image` (64, 64, 3) uint8 with its `proprio` (4,), and `goal_image`; they replace what is drawn. A sentence sets the
    task, unless `task` does, and a start is drawn whose goal picture shows what it asks for. Beside `start` or `image`
    it is only what the policy is told and success is judged by: the goal picture that fits it is yours to give.

    ## Vectorized environment
    `gymnasium.make_vec("NicoLDream-v0", num_envs=256)` makes a `NicoLDreamVectorEnv`: the same
    dreams, moved by one forward pass. Its row i equals this environment reset with seed + i,
    exactly.

    ## Version History
    * v0: initial version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": constants.CONTROL_HZ}
    _max_episode_steps = constants.EPISODE_STEPS  # where LeRobot looks for the length of an episode
    compute_reward: GoalReward
    """Only a goal env has it: learners take its presence for the form of the observation."""

    def __init__(self, task: str = "reach", **kwargs: Any) -> None:
        self.config = DreamConfig.of(task, kwargs)
        self.render_mode = self.config.render_mode
        self.dreams = Dreams(1, self.config)
        self.observation_space = self.dreams.observation_space
        self.action_space = contract.action_space()
        if self.config.goal_env:
            self.compute_reward = rewards.goal_reward(self.config.reward, self.dreams.metric)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, Info]:
        """Draws a recorded start and returns the first observation.

        Raises:
            ValueError: If an option is unknown, or has another shape or type than accepted.
        """
        super().reset(seed=seed)
        self.dreams.reset(np.zeros(1, int), self.np_random.random((1, DRAWS)), options)
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[Obs, float, bool, bool, Info]:
        """Predicts one control step.

        Raises:
            ValueError: If the action has another shape than (4,) or is not finite.
        """
        noise = self.np_random.random(1, np.float32) if self.config.temperature else None
        reward, ended = self.dreams.step(contract.check_actions(action, (4,))[None], noise)
        return self._observation(), float(reward[0]), False, bool(ended[0]), self._info()

    def render(self) -> np.ndarray | None:
        """Returns the decoder's picture `(256, 256, 3)` uint8, or None without a render mode."""
        frames = self.dreams.frames()
        return None if frames is None else frames[0]

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

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a state of `get_state`, of this env or of another with the same world model."""
        self.dreams.set_state(state)

    def _observation(self) -> Obs:
        return {name: batch[0] for name, batch in self.dreams.observation().items()}

    def _info(self) -> Info:
        return {name: batch[0].item() for name, batch in self.dreams.info().items()}


class NicoLDreamVectorEnv(VectorEnv[Obs, np.ndarray, np.ndarray]):
    """Many dreams moved by one forward pass, see `NicoLDreamEnv`.

    Env i draws from a generator of its own, seeded with seed + i, so it equals the single
    environment with that seed whatever runs beside it.

    Args:
        num_envs: Number of dreams.
        task: As in `NicoLDreamEnv`.
        max_episode_steps: Steps after which an episode is truncated.
        autoreset_mode: When an ended dream starts anew: in the same step (default;
            `info["final_obs"]` and `info["final_info"]` hold the end), in the next one, or by
            `reset(options={"reset_mask": ...})`.
        **kwargs: As in `NicoLDreamEnv`.
    """

    metadata = {**NicoLDreamEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
    compute_reward: GoalReward
    """Only a goal env has it."""

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "reach",
        *,
        max_episode_steps: int = constants.EPISODE_STEPS,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        **kwargs: Any,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value < 1:
                raise ValueError(f"{name}={value}; accepted: at least 1")
        if not isinstance(autoreset_mode, AutoresetMode):
            checks.check_choice("autoreset_mode", autoreset_mode, [m.value for m in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.config = DreamConfig.of(task, kwargs)
        self.num_envs, self.render_mode = num_envs, self.config.render_mode
        self.dreams = Dreams(num_envs, self.config, max_episode_steps)
        self.single_observation_space = self.dreams.observation_space
        self.single_action_space = contract.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        if self.config.goal_env:
            self.compute_reward = rewards.goal_reward(self.config.reward, self.dreams.metric)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Obs, Info]:
        """Starts every dream anew, or those of `options["reset_mask"]` `(num_envs,)` bool.

        Args:
            seed: Seed of env 0 (env i takes seed + i), a seed for each env, or None to go on
                drawing.
            options: As in `NicoLDreamEnv`, for every dream that starts; `start` and `instruction` may hold one for
                each of them.
        """
        seed = int(seed) if isinstance(seed, np.integer) else seed
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries; accepted: an int or {self.num_envs} of them")
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask={mask}; accepted: ({self.num_envs},) bool, not all False")
        index = np.flatnonzero(mask)
        for i in index.tolist():
            if seeds is not None and seeds[i] is not None:
                self._generators[i] = seeding.np_random(seeds[i])[0]
        self._restart(index, options)
        return self.dreams.observation(), _with_masks(self.dreams.info(), mask)

    def step(self, actions: np.ndarray) -> tuple[Obs, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Predicts one control step of every dream; an ended one starts anew as `autoreset_mode` says.

        Raises:
            ValueError: If the actions have another shape than (num_envs, 4) or are not finite.
        """
        dreams, mode, everyone = self.dreams, self.autoreset_mode, np.ones(self.num_envs, bool)
        before = dreams.ended
        if mode is AutoresetMode.DISABLED and before.any():
            raise ResetNeeded(f"dreams {np.flatnonzero(before)} have ended; reset them by reset_mask")
        reward, ended = dreams.step(contract.check_actions(actions, (self.num_envs, 4)), self._luck(~before))
        final: Info = {}
        if mode is AutoresetMode.NEXT_STEP and before.any():
            self._restart(np.flatnonzero(before))
            reward[before], ended[before] = 0.0, False
        if mode is AutoresetMode.SAME_STEP and ended.any():
            final = self._final(ended)
            self._restart(np.flatnonzero(ended))
        infos = _with_masks(dreams.info(), everyone) | final
        return dreams.observation(), reward, np.zeros(self.num_envs, bool), ended, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns the decoder's pictures `(256, 256, 3)` uint8, or None without a render mode."""
        frames = self.dreams.frames()
        return None if frames is None else tuple(frames)

    @property
    def task(self) -> str:
        """The task of the episodes, or "all"; may be changed for those to come."""
        return self.dreams.task

    @task.setter
    def task(self, task: str) -> None:
        self.dreams.set_task(task)

    @property
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode is truncated."""
        return self.dreams.horizon

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
        return self.dreams.get_state()

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a state of `get_state`, of this env or of another with the same world model."""
        self.dreams.set_state(state)

    def _restart(self, index: np.ndarray, options: dict[str, Any] | None = None) -> None:
        uniform = np.stack([self._generators[i].random(DRAWS) for i in index])
        self.dreams.reset(index, uniform, options)

    def _luck(self, going: np.ndarray) -> np.ndarray | None:
        """Draws a random number for every dream that goes on, each from its own generator."""
        if not self.config.temperature:
            return None
        noise = np.zeros(self.num_envs, np.float32)
        noise[going] = [self._generators[i].random(dtype=np.float32) for i in np.flatnonzero(going)]
        return noise

    def _final(self, ended: np.ndarray) -> Info:
        """Returns last observations and infos of the ended dreams, as Gymnasium's vector envs give them."""
        index = np.flatnonzero(ended)
        batch = self.dreams.observation(index)
        obs = np.full(self.num_envs, None, object)
        for row, i in enumerate(index):
            obs[i] = {name: values[row] for name, values in batch.items()}
        infos = self.dreams.info()
        for rows in infos.values():
            rows[~ended] = 0
        return _with_masks({"final_obs": obs, "final_info": _with_masks(infos, ended)}, ended)


def _with_masks(infos: Info, given: np.ndarray) -> Info:
    """Adds the mask `_key` of every key: which dreams have this info."""
    return infos | {f"_{name}": given.copy() for name in infos}

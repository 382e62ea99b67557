"""NICOL at its table in PyBullet, without a world model; `dream_env.nicol.real` wraps it with one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from dream_env import checks
from dream_env.language import INSTRUCTION_DIM, embed
from dream_env.nicol import constants
from dream_env.nicol.camera import CAMERAS
from dream_env.nicol.episode_start import EpisodeStart, SavedState, check_arms, check_reset_options
from dream_env.nicol.goal_renderer import GoalRenderer, draw_episode
from dream_env.nicol.kinematics import Arm
from dream_env.nicol.layout import Layout
from dream_env.nicol.physics import Physics
from dream_env.nicol.scene import TableScene
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.spec import spec_of
from dream_env.nicol.tasks import STANDARD, TASKS, SimState


class NoEpisode(ResetNeeded, AttributeError):
    """Raised when there is no episode: before `reset()` and after `close()`.

    It is an `AttributeError` too, so that `hasattr` returns False for the attributes of an episode.
    """


class NicoLRealEnv(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """NICOL at its table, simulated by rigid-body physics.

    ## Description
    NICOL, a humanoid robot with two OpenManipulator-P arms and RH8D hands, stands at a table with three 5 cm cubes of
    different colors. An instruction names one cube: hold the hand above it (`reach`), push it over the tape line
    (`push`), lift it (`lift`), or put it where the goal image shows it (`place`). Or it names two cubes: put one on
    the other (`stack`), or put both where the goal image shows them (`arrange`). The fingers hold a cube by friction
    alone. `lift_bar` uses both arms: two bars of 44 cm and 1.2 kg lie on the table, and the named one has to be lifted
    and kept level.

    ## Action Space
    `Box(-1, 1, (4,), float32)`, at 10 Hz. x points away from the robot, y to its left, z up. In `lift_bar` the shape is
    `(8,)`: the right arm's four numbers, then the left arm's.

    | index | meaning | effect of 1.0 |
    |---|---|---|
    | 0, 1, 2 | displacement of the grasp point along x, y, z | 4 cm |
    | 3 | closing of the hand (+) or opening (-) | a quarter of the full range |

    ## Observation Space
    A flat `Dict`, of float32 boxes unless noted.

    | key | shape | meaning |
    |---|---|---|
    | `pixels` | (64, 64, 3) uint8 | image of the policy camera |
    | `proprio` | (4,) | the controller's set-point: grasp point and closing, normalized; (8,) in `lift_bar` |
    | `instruction` | (64,) | embedding of the instruction |

    ## Rewards
    1 while success holds, else 0.

    ## Starting State
    Three cubes of different colors, drawn from four, at random positions at least 12 cm apart. The hand is open, at a
    random position above the table. The goal image shows the same scene after the scripted expert has done the task.
    If the expert fails under shifted friction or mass, the goal image shows its result with the default values; an
    initial state in which it fails even then is not used.

    ## Episode End
    Episodes are never terminated. They are truncated after the task's horizon: 24 steps for `reach`, `push` and
    `lift`, 32 for `lift_bar`, 40 for `place` and `stack`, 70 for `arrange`. `info["is_success"]` is True if the task's
    condition has held for the last 3 steps; its value at the end of the episode counts.

    ## Arguments
    * `task`: "reach", "push", "lift", "place", "stack", "arrange" or "lift_bar"; or "all" for a random one of `tasks`.
    * `tasks`: tasks that "all" stands for, for one arm; by default "reach", "push" and "lift".
    * `arm`: "right" or "left", in tasks for one arm. The left arm's scene is the right arm's, mirrored in y.
    * `camera`: camera of `render()`: "video", "frame", "eye" or "workspace" (the policy's).
    * `assisted_grasp`: fix a cube to the palm while the closed hand encloses it, in tasks for one arm.
    * `physics`: dict of physical properties, see `dream_env.nicol.physics.Physics`.
    * `shift`: change of the physical properties: "none", "friction", "mass", "lighting", "camera" or "table".
    * `scene`: "standard" or "varied". The varied scene draws in every episode the light, shadows, the look of the
      table, a camera displacement of some centimetres, and one to five objects: cubes of different sizes, a ball and a
      cylinder.
    * `horizon`: control steps after which an episode is truncated; None for the task's own horizon.
    * `render_mode`: None, "rgb_array", or "human" for PyBullet's window.

    `reset(options=...)` takes:

    * `task`: as above.
    * `instruction`: a sentence. It sets the task, unless `task` is given, and a cube of the color that it names is put
      on the table.
    * `spoken`: the sentence that the policy is told if it differs from the instruction, for control experiments.
    * `layout`: a `dream_env.nicol.layout.Layout`.
    * `goals`: positions at which the goal image of `place` and `arrange` shows the named cubes, `(1, 2)` or `(2, 2)`
      in m.
    * `goal_image`: the image given as the goal image if it differs from the true one, for control experiments.
    * `state`: a state of `get_state`; it cannot be combined with other options.

    ## Version History
    * v0: initial version.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": constants.CONTROL_HZ}

    def __init__(
        self,
        task: str = "reach",
        *,
        tasks: Sequence[str] = STANDARD,
        arm: Arm = "right",
        camera: str = "video",
        assisted_grasp: bool = False,
        physics: dict[str, Any] | None = None,
        shift: str = "none",
        scene: str = "standard",
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.check_choice("task", task, [*TASKS, "all"])
        for name in tasks:
            checks.check_choice("tasks", name, [name for name, each in TASKS.items() if each.arms == 1])
        checks.check_choice("arm", arm, ["right", "left"])
        checks.check_choice("camera", camera, [*CAMERAS, "eye"])
        checks.check_choice("render_mode", render_mode, [None, *self.metadata["render_modes"]])
        checks.check_flag("assisted_grasp", assisted_grasp)
        if horizon is not None:
            checks.check_count("horizon", horizon, beside="None, ")
        self.task, self.tasks, self.arm, self.camera = task, tuple(tasks), arm, camera
        self.horizon, self.render_mode, self.assisted_grasp = horizon, render_mode, assisted_grasp
        if not isinstance(physics, dict | None):
            raise ValueError(
                f"physics={checks.shown(physics)}; accepted: a dict of the fields of `dream_env.nicol.physics.Physics`"
            )
        for key in physics or {}:
            checks.check_choice("physics key", key, [field.name for field in fields(Physics)])
        checks.check_choice("shift", shift, SHIFTS)
        checks.check_choice("scene", scene, SCENES)
        self.scene_name = scene
        self.physics, self.shift, self.variety = Physics(**(physics or {})), SHIFTS[shift], SCENES[scene]
        instruction = spaces.Box(-1.0, 1.0, (INSTRUCTION_DIM,), np.float32)
        self.world = copy.deepcopy(spec_of(task))  # an env needs spaces of its own, as they have random generators
        self.arms = 1 if task == "all" else TASKS[task].arms
        if self.arms == 2 and (arm != "right" or assisted_grasp):
            given = f"arm={arm!r}, assisted_grasp={assisted_grasp}"
            raise ValueError(f"{given}; accepted by {task!r}, which takes both arms: 'right' and False")
        parts = {**self.world.observation.spaces, "instruction": instruction}
        self.observation_space: spaces.Dict = spaces.Dict(parts)  # type: ignore[assignment]
        self.action_space: spaces.Box = self.world.action  # type: ignore[assignment]
        self._running = False
        self._start: EpisodeStart | None = None
        self._deltas: list[np.ndarray] = []
        self._held_for = 0
        self._scene: TableScene | None = None
        self._goals = GoalRenderer(arm, assisted_grasp)

    # ------------------------------------------------------------------------------------------------- Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draws a scene and an instruction, renders the goal image, and returns the first observation.

        Raises:
            ValueError: If seed or options are not accepted, or the expert fails in every initial state that is drawn.
                The current episode is then kept.
        """
        seed, options = checks.check_seed(seed), check_reset_options(options)
        if "state" in options:
            saved = SavedState.of(options["state"])
            super().reset(seed=seed)
            self._go_to(saved)
            return self.last_observation, self._info()
        rng = copy.deepcopy(self.np_random) if seed is None else seeding.np_random(seed)[0]
        world = (self.physics, self.shift, self.variety)
        start, goal = draw_episode(rng, self.task, options, world, self._goals, self.tasks)
        super().reset(seed=seed)
        self.np_random.bit_generator.state = rng.bit_generator.state
        self._begin(start, options.get("goal_image", goal))
        return self.last_observation, self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Moves the set-point by one action and lets physics run for 0.1 s.

        Raises:
            ValueError: If the shape of the action is not that of the action space, or the action is not finite.
            ResetNeeded: If there is no episode: before the first reset and after `close`.
        """
        delta = checks.check_action(action, self.action_space)
        self._check_running()
        self._advance(delta)
        truncated = len(self._deltas) >= self.episode_steps
        return self.last_observation, float(self.is_success), False, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Returns the image of `camera`, `(H, W, 3)` uint8; None unless `render_mode` is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        self._check_running()
        return self.scene.picture(self.camera)

    def close(self) -> None:
        """Closes the simulation; may be called more than once."""
        self._goals.close()
        if self._scene is not None:
            self._scene.close()
        self._scene = None
        self._running = False

    # ---------------------------------------------------------------------------------------- beyond Gymnasium

    @property
    def scene(self) -> TableScene:
        """The simulation, created on first use."""
        if self._scene is None:
            gui = self.render_mode == "human"
            self._scene = TableScene(self.arm, self.assisted_grasp, self.physics, gui, self.arms)
        return self._scene

    @property
    def start(self) -> EpisodeStart:
        """The start of the episode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._start is None:
            raise NoEpisode("no episode before reset(); call reset() first")
        return self._start

    @property
    def task_name(self) -> str:
        """The task of this episode."""
        return self.start.task_name

    @property
    def instruction(self) -> str:
        """The instruction of this episode, which defines success."""
        return self.start.instruction

    @property
    def task_description(self) -> str:
        """The instruction of this episode, under the name that LeRobot reads."""
        return self.start.instruction

    @property
    def spoken(self) -> str:
        """The sentence given to the policy."""
        return self.start.spoken

    @property
    def target(self) -> int:
        """Index of the object that the instruction names first."""
        return self.start.target

    @property
    def layout(self) -> Layout:
        """The objects on the table and their positions at the start of the episode."""
        return self.start.layout

    @property
    def goal_image(self) -> np.ndarray:
        """The goal image, `(64, 64, 3)` uint8."""
        self.start  # noqa: B018  (raises before the first reset)
        return self._goal_image.copy()

    @property
    def _max_episode_steps(self) -> int:
        """Largest number of control steps of an episode, under the name that LeRobot reads."""
        return self.horizon or max(TASKS[name].horizon for name in (self.tasks if self.task == "all" else (self.task,)))

    @property
    def episode_steps(self) -> int:
        """Number of control steps of this episode."""
        return self.horizon or TASKS[self.task_name].horizon

    @property
    def is_success(self) -> bool:
        """Whether the task's condition has held for the last `HOLD_STEPS` steps."""
        return self._held_for >= constants.HOLD_STEPS

    @property
    def last_observation(self) -> dict[str, np.ndarray]:
        """The current observation: image of the policy camera, set-point, and embedding of the spoken sentence."""
        self._check_running()
        pixels = self.scene.picture("workspace")
        return {"pixels": pixels, "proprio": self.proprio.copy(), "instruction": self._words.copy()}

    def sim_state(self) -> SimState:
        """Returns the simulator's state in the right arm's frame.

        Raises:
            ResetNeeded: If there is no episode.
        """
        self._check_running()
        return self.scene.sim_state(
            self.start.target, constants.denormalize(self.proprio), self.start.other, self.start.goals
        )

    def expert_action(self) -> np.ndarray:
        """Returns the scripted expert's delta action in the current state, `(4,)` or `(8,)`."""
        return TASKS[self.task_name].expert(self.sim_state())

    def truth(self) -> dict[str, Any]:
        """Returns the simulator's labels for the current state.

        Returns:
            A dict with `objects` (positions in m), `colors`, `target`, `other`, `hand` (grasp point in m), `held`,
            `condition`, and `touched`: the indices of the objects that the robot has touched in this episode, in the
            order of first contact.
        """
        now = self.sim_state()
        return {
            "objects": now.objects.astype(np.float32),
            "colors": self.layout.colors.copy(),
            "target": self.target,
            "other": self.start.other,
            "hand": now.hand.astype(np.float32),
            "held": now.held,
            "condition": TASKS[self.task_name].condition(now),
            "touched": self._touched,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns everything that `set_state` needs to continue exactly from here: the start, and the actions since.

        Raises:
            ResetNeeded: If there is no episode.
        """
        self._check_running()
        deltas = np.array(self._deltas, np.float32).reshape(-1, len(self.proprio))
        rng = dict(self.np_random.bit_generator.state)
        return SavedState(self.start, deltas, self._goal_image, rng).to_dict()

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state of `get_state`, of this environment or of another one with the same arguments.

        The episode is replayed up to that state, because PyBullet's own snapshots leave out the solver's memory of
        contacts, so the simulation would continue slightly differently.

        Raises:
            ValueError: If `state` is not accepted. The current episode is then kept.
        """
        self._go_to(SavedState.of(state))

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copying and pickling: everything except the simulation."""
        return vars(self) | {"_scene": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the state of `__getstate__`, and replays the episode in a new simulation."""
        vars(self).update(state)
        if self._running:
            self._replay(self.start, self._goal_image, self._deltas)

    # ------------------------------------------------------------------------------------------------- inside

    def _check_running(self) -> None:
        if not self._running:
            raise NoEpisode("no episode before reset() and after close(); call reset() first")

    def _go_to(self, saved: SavedState) -> None:
        check_arms(self.task, saved.start)
        self.np_random.bit_generator.state = saved.rng
        self._replay(saved.start, saved.goal_image, list(saved.deltas))

    def _replay(self, start: EpisodeStart, goal: np.ndarray, deltas: list[np.ndarray]) -> None:
        """Replays an episode from its start."""
        self._begin(start, goal)
        for delta in deltas:
            self._advance(delta)

    def _begin(self, start: EpisodeStart, goal: np.ndarray) -> None:
        """Builds the scene, with the hand at the first set-point."""
        self._start, self._goal_image, self.proprio = start, goal, start.start.copy()
        self._deltas, self._held_for = [], 0
        self._touched: tuple[int, ...] = ()
        self._words = embed(start.spoken)
        self.scene.physics = start.physics
        self.scene.reset(start.layout, constants.denormalize(start.start))
        self._running = True

    def _advance(self, delta: np.ndarray) -> None:
        """Moves the set-point, runs physics, and counts for how many steps the condition has held."""
        self._deltas.append(delta)
        self.proprio = constants.integrate(self.proprio, delta)
        self.scene.step(constants.denormalize(self.proprio))
        done = TASKS[self.task_name].condition(self.sim_state())
        self._held_for = self._held_for + 1 if done else 0
        self._touched += tuple(i for i in self.scene.touched() if i not in self._touched)

    def _info(self) -> dict[str, Any]:
        return {"is_success": self.is_success}

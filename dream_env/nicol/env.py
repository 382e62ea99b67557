"""NICOL at its table in PyBullet, without any world model; `dream_env.nicol.real` puts one around it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from dream_env import checks
from dream_env.language import INSTRUCTION_DIM, embed
from dream_env.nicol import constants
from dream_env.nicol.camera import CAMERAS
from dream_env.nicol.goal_renderer import GoalRenderer
from dream_env.nicol.kinematics import Arm
from dream_env.nicol.language import color_of
from dream_env.nicol.scene import COLOR_NAMES, Layout, Physics, TableScene
from dream_env.nicol.shift import SHIFTS
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import TASKS, SimState, task_of

OPTIONS = ("task", "instruction", "spoken", "layout", "state")
"""Keys that `NicoLRealEnv.reset(options=...)` takes."""
_STATE = ("task_name", "instruction", "spoken", "target", "_physics")
"""Attributes that `get_state` keeps as they are."""


class NicoLRealEnv(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """NICOL at its table, in rigid-body physics.

    ## Description
    NICOL, a humanoid with two OpenManipulator-P arms and RH8D hands, stands at a table with three 5 cm cubes of
    different colors. An instruction names one of them: hold the hand above it (`reach`), push it over the tape line
    (`push`), or lift it (`lift`). The fingers hold a cube by friction alone.

    ## Action Space
    `Box(-1, 1, (4,), float32)`, at 10 Hz; x points away from the robot, y to its left, z up.

    | index | meaning | unit of 1.0 |
    |---|---|---|
    | 0, 1, 2 | displacement of the grasp point along x, y, z | 4 cm |
    | 3 | closing of the hand (+) or opening (-) | a quarter of the whole way |

    ## Observation Space
    A flat `Dict` of float32 boxes.

    | key | shape | meaning |
    |---|---|---|
    | `pixels` | (64, 64, 3) uint8 | the camera picture |
    | `proprio` | (4,) | the controller's set-point: grasp point and closing, normalized |
    | `instruction` | (64,) | embedding of the sentence |

    ## Rewards
    1 while success holds, else 0.

    ## Starting State
    Cubes at random places at least 12 cm apart, three of four colors; the hand open above the table at a random
    place. The goal picture shows the same scene after the scripted expert has done the task.

    ## Episode End
    Truncated after 24 steps, never terminated. `info["is_success"]` tells whether the task's condition has held for
    the last 3 steps; its value at the end of the episode counts.

    ## Arguments
    * `task`: "reach", "push", "lift", or "all" for a random one in each episode.
    * `arm`: "right" or "left"; the left arm's world is the right one's mirrored in y.
    * `camera`: camera of `render()`: "video", "frame", "eye" or "workspace" (the policy's).
    * `assisted_grasp`: fix a cube to the palm while the closed hand encloses it.
    * `physics`: dict of physical properties, see `dream_env.nicol.scene.Physics`.
    * `shift`: "none", or a named change of them: "friction", "mass", "lighting", "camera"; see
      `dream_env.nicol.shift`.
    * `render_mode`: None, "rgb_array", or "human" for PyBullet's window.

    `reset(options=...)` takes `task`, `instruction` (a sentence; it sets the task, unless `task` does, and puts a cube
    of the color that it names on the table), `spoken` (what the policy is told when it differs from the instruction,
    for controls), `layout` (a `dream_env.nicol.scene.Layout`), or `state` (of `get_state`) alone.

    ## Version History
    * v0: initial version.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": constants.CONTROL_HZ}
    _max_episode_steps = constants.EPISODE_STEPS  # where LeRobot looks for the length of an episode

    def __init__(
        self,
        task: str = "reach",
        *,
        arm: Arm = "right",
        camera: str = "video",
        assisted_grasp: bool = False,
        physics: dict[str, Any] | None = None,
        shift: str = "none",
        render_mode: str | None = None,
    ) -> None:
        checks.check_choice("task", task, [*TASKS, "all"])
        checks.check_choice("arm", arm, ["right", "left"])
        checks.check_choice("camera", camera, [*CAMERAS, "eye"])
        checks.check_choice("render_mode", render_mode, [None, *self.metadata["render_modes"]])
        self.task, self.arm, self.camera, self.render_mode = task, arm, camera, render_mode
        self.assisted_grasp = assisted_grasp
        if not isinstance(physics, dict | None):
            raise ValueError(f"physics={physics!r}; accepted: a dict of the fields of `dream_env.nicol.scene.Physics`")
        for key in physics or {}:
            checks.check_choice("physics key", key, [field.name for field in fields(Physics)])
        checks.check_choice("shift", shift, SHIFTS)
        self.physics, self.shift = Physics(**(physics or {})), SHIFTS[shift]
        instruction = spaces.Box(-1.0, 1.0, (INSTRUCTION_DIM,), np.float32)
        self.observation_space: spaces.Dict = spaces.Dict({**SPEC.observation.spaces, "instruction": instruction})  # type: ignore[assignment]
        self.action_space: spaces.Box = SPEC.action  # type: ignore[assignment]
        self._running = False
        self._scene: TableScene | None = None
        self._rehearsal = GoalRenderer(arm, assisted_grasp)

    # ------------------------------------------------------------------------------------------------- Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draws a scene and an instruction, pictures the goal, and returns the first observation.

        Raises:
            ValueError: If an option is unknown or not accepted; the episode in hand goes on.
        """
        super().reset(seed=seed)
        options = options or {}
        _check_options(options)
        if "state" in options:
            self.set_state(options["state"])
            return self.last_observation, self._info()
        name = options.get("task", self.task)
        checks.check_choice("task", name, [*TASKS, "all"])
        task = str(self.np_random.choice(list(TASKS))) if name == "all" else name
        layout = options.get("layout") or Layout.draw(self.np_random)
        start = constants.normalize(self.np_random.uniform(START_LOW, START_HIGH).astype(np.float32))
        on_table = [COLOR_NAMES[i] for i in layout.colors]
        target = int(self.np_random.integers(len(on_table)))
        sentence = TASKS[task].grammar.sample(self.np_random, on_table[target])
        if "instruction" in options:
            sentence = options["instruction"]
            task = task if "task" in options else task_of(sentence)
            color = color_of(sentence)
            if color in on_table:
                target = on_table.index(color)
            elif "layout" not in options:  # the cube that was drawn takes the color
                layout.colors[target] = COLOR_NAMES.index(color)
            else:
                raise ValueError(f"options['instruction']={sentence!r}; accepted: on this table are {on_table}")
        spoken = options.get("spoken", sentence)
        embed(spoken)  # a sentence of unknown words raises before anything has changed
        self.task_name, self.instruction, self.spoken, self.target = task, sentence, spoken, target
        self._physics = self.shift.apply(self.physics, self.np_random)

        self._begin(layout, start)
        return self.last_observation, self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Moves the set-point by one action and lets physics run for 0.1 s.

        Raises:
            ValueError: If the action has another shape than (4,) or is not finite.
            ResetNeeded: If there is no episode, before the first reset and after `close`.
        """
        delta = checks.check_action(action, self.action_space)
        self._check_running()
        self._deltas.append(delta)
        self._advance(delta)
        return self.last_observation, float(self.is_success), False, False, self._info()

    def render(self) -> np.ndarray | None:
        """Returns the picture of `camera` `(H, W, 3)` uint8; PyBullet's window draws itself."""
        if self.render_mode != "rgb_array":
            return None
        self._check_running()
        return self.scene.picture(self.camera)

    def close(self) -> None:
        """Ends the simulation; may be called again."""
        self._rehearsal.close()
        if self._scene is not None:
            self._scene.close()
        self._scene = None
        self._running = False

    # ---------------------------------------------------------------------------------------- beyond Gymnasium

    @property
    def scene(self) -> TableScene:
        """The simulation, opened at first use."""
        if self._scene is None:
            gui = self.render_mode == "human"
            self._scene = TableScene(self.arm, self.assisted_grasp, self.physics, gui)
        return self._scene

    @property
    def task_description(self) -> str:
        """The instruction of this episode."""
        return self.instruction

    @property
    def is_success(self) -> bool:
        """Whether the task's condition has held for the last `HOLD_STEPS` steps."""
        return self._held_for >= constants.HOLD_STEPS

    def sim_state(self) -> SimState:
        """Returns the physical situation in the right arm's frame."""
        return self.scene.sim_state(self.target, constants.denormalize(self.proprio))

    def expert_action(self) -> np.ndarray:
        """Returns the scripted expert's delta action `(4,)` for the current situation."""
        return TASKS[self.task_name].expert(self.sim_state())

    def truth(self) -> dict[str, Any]:
        """Returns what physics knows: objects, colors, target, hand, held, condition, and the cubes touched so far.

        `touched` lists them in the order of the robot's first contact with each.
        """
        now = self.sim_state()
        return {
            "objects": now.objects.astype(np.float32),
            "colors": self.layout.colors.copy(),
            "target": self.target,
            "hand": now.hand.astype(np.float32),
            "held": now.held,
            "condition": TASKS[self.task_name].condition(now),
            "touched": self._touched,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns everything that `set_state` needs to go on exactly from here: the start, and the way since."""
        state = {name: getattr(self, name) for name in (*_STATE, "layout")}
        return {**state, "start": self._start, "deltas": list(self._deltas), "rng": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes back to a state of `get_state`, of this env or of another with the same arguments.

        The episode is played again up to that state: PyBullet's own snapshots leave out what its solver remembers of
        contacts, and would go on a little differently.
        """
        if missing := {*_STATE, "layout", "start", "deltas", "rng"} - {*state}:
            raise ValueError(f"state lacks {sorted(missing)}; accepted: what `get_state` gave")
        for name in _STATE:
            setattr(self, name, state[name])
        self.np_random.bit_generator.state = state["rng"]
        self._replay(state["layout"], state["start"], state["deltas"])

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle takes along: all but the simulation."""
        return vars(self) | {"_scene": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over what `__getstate__` gave, and plays the episode again in a simulation of its own."""
        vars(self).update(state)
        if self._running:
            self._replay(self.layout, self._start, self._deltas)

    # ------------------------------------------------------------------------------------------------- inside

    def _check_running(self) -> None:
        if not self._running:
            raise ResetNeeded("no episode before reset() and after close(); call reset() first")

    def _replay(self, layout: Layout, start: np.ndarray, deltas: list[np.ndarray]) -> None:
        """Plays an episode again from its start."""
        self._begin(layout, start)
        for delta in deltas:
            self._deltas.append(delta)
            self._advance(delta)

    def _begin(self, layout: Layout, start: np.ndarray) -> None:
        """Builds the scene with the hand at a set-point, and pictures the goal."""
        self.layout, self.proprio, self._start = layout, start, start
        self._deltas: list[np.ndarray] = []
        self._held_for = 0
        self._touched: tuple[int, ...] = ()
        self._words = embed(self.spoken)
        self.scene.physics = self._physics
        self.scene.reset(layout, constants.denormalize(start))
        self.goal_image = self._rehearsal.picture(self.task_name, self.target, self._physics, layout, start)
        self._running = True

    def _advance(self, delta: np.ndarray) -> None:
        """Moves the set-point, runs physics, and counts how long the condition has held."""
        self.proprio = constants.integrate(self.proprio, delta)
        self.scene.step(constants.denormalize(self.proprio))
        done = TASKS[self.task_name].condition(self.sim_state())
        self._held_for = self._held_for + 1 if done else 0
        self._touched += tuple(i for i in self.scene.touched() if i not in self._touched)

    @property
    def last_observation(self) -> dict[str, np.ndarray]:
        """The present observation: the policy's picture, the set-point and the sentence that the policy is told."""
        self._check_running()
        pixels = self.scene.picture("workspace")
        return {"pixels": pixels, "proprio": self.proprio.copy(), "instruction": self._words.copy()}

    def _info(self) -> dict[str, Any]:
        return {"is_success": self.is_success}


def _check_options(options: dict[str, Any]) -> None:
    """Raises ValueError unless a reset can take the options."""
    for key in options:
        checks.check_choice("options key", key, OPTIONS)
    if "state" in options and len(options) > 1:
        raise ValueError(f"options: a state is all of an episode; accepted beside it: nothing (given: {list(options)})")
    for key in options.keys() & {"instruction", "spoken"}:
        if not isinstance(options[key], str):
            raise ValueError(f"options[{key!r}]={options[key]!r}; accepted: a sentence")
    if not isinstance(options.get("layout"), Layout | None):
        raise ValueError(f"options['layout']={options['layout']!r}; accepted: a `dream_env.nicol.scene.Layout`")


START_LOW = np.array([0.34, -0.38, 0.95, 0.0])
START_HIGH = np.array([0.56, 0.02, 1.06, 0.0])
"""Box of the set-point at the start (m, closing)."""

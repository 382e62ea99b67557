"""panda-gym by pictures alone: an arm that sees through a camera and is shown its goal as a picture.

panda-gym (Gallouédec et al. 2021) tells where everything is. Here a policy is told nothing: it sees a picture, and
the goal is a picture too, of the arm (reach) or the object (push) where it is to be. The marker of the goal is hidden.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

from dream_env.agents.data.behaviors import Behavior, Observation

SIDE = 64
"""Side of a picture in pixels."""
_HIDDEN = np.array([0.0, 0.0, -9.0])
"""Where the marker of the goal is put."""
_UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
_DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""Orientations: of objects, and of the hand that points down."""
_PLACE = {"cameraTargetPosition": (0.0, 0.0, 0.13), "distance": 1.05, "roll": 0, "upAxisIndex": 2}
_CAMERAS = ({"yaw": 90, "pitch": -20}, {"yaw": 0, "pitch": -20})
"""From the front and from the side: a single camera hardly tells how far the hand is, and a policy drifts that way."""


class PandaPictures(gym.Wrapper[Any, Any, Any, Any]):
    """Shows a panda-gym environment as a picture; success counts at the end of the episode.

    The picture `(64, 64, 3)` uint8 holds those of two cameras, side by side.

    Args:
        env: PandaReach or PandaPush, control by the hand's displacement.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        world: Any = env.unwrapped
        self.sim, self.robot, self.task = world.sim, world.robot, world.task
        self.client = self.sim.physics_client
        self.moves_object = "object" in self.sim._bodies_idx
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self._views = [self.client.computeViewMatrixFromYawPitchRoll(**_PLACE, **one) for one in _CAMERAS]
        self._lens = self.client.computeProjectionMatrixFOV(fov=45, aspect=1 / len(_CAMERAS), nearVal=0.1, farVal=5)

    @property
    def goal_observation(self) -> dict[str, np.ndarray]:
        """The picture of this episode's goal."""
        return {"pixels": self._goal}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment, and takes the picture of its goal."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.sim.set_base_pose("target", _HIDDEN, _UPRIGHT)
        before = self.sim.save_state()
        if self.moves_object:
            self.sim.set_base_pose("object", obs["desired_goal"], _UPRIGHT)
        else:
            for _ in range(10):  # each begins where the one before has ended
                angles = self.robot.inverse_kinematics(self.robot.ee_link, obs["desired_goal"], _DOWN)
                self.robot.set_joint_angles(angles)
        self._goal = self.render()
        self.sim.restore_state(before)
        self.sim.remove_state(before)
        return self.render(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves the arm; nothing ends an episode but its time."""
        _, reward, _, truncated, info = self.env.step(action)
        return self.render(), float(reward), False, truncated, info

    def render(self) -> Any:
        """Takes a picture by each camera, without shadows, which take most of the time."""
        width, seen = SIDE // len(_CAMERAS), []
        for view in self._views:
            *_, rgba, _, _ = self.client.getCameraImage(
                width, SIDE, view, self._lens, shadow=0, renderer=self.client.ER_TINY_RENDERER,
                flags=self.client.ER_NO_SEGMENTATION_MASK,
            )  # fmt: skip
            seen.append(np.asarray(rgba, np.uint8).reshape(SIDE, width, 4)[..., :3])
        return np.concatenate(seen, 1)


def play(env: gym.Env) -> Callable[..., Behavior]:
    """Returns a behavior that meets the object, as a person at the controls does, and pushes it somewhere.

    It knows where the object is; what is recorded of it are pictures and actions.
    """
    world: Any = env.get_wrapper_attr("sim"), env.get_wrapper_attr("robot")

    def acts(space: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
        sim, robot = world
        while True:
            place, angle = np.array(sim.get_base_position("object")), rng.uniform(-np.pi, np.pi)
            way = np.array([np.cos(angle), np.sin(angle), 0.0])
            before, after = place - rng.uniform(0.05, 0.08) * way, place + rng.uniform(-0.02, 0.15) * way
            for target, height in ((before, 0.1), (before, 0.02), (after, 0.02)):
                target[2] = height
                for _ in range(8):
                    left = target - robot.get_ee_position()
                    if np.linalg.norm(left) < 0.015:
                        break
                    yield left / 0.05 + rng.normal(0, 0.15, 3)
            yield rng.uniform(-1, 1, 3)

    return acts


def make(name: str, **kwargs: Any) -> gym.Env:
    """Makes the environment of a panda-gym id, such as "PandaReach-v3".

    Raises:
        ImportError: If panda-gym is not installed.
    """
    try:
        import panda_gym  # type: ignore[import-untyped]  # noqa: F401  registers the ids
    except ImportError as error:
        raise ImportError('this needs panda-gym: pip install "dream-env[panda]"') from error
    with tempfile.TemporaryDirectory() as folder, patch("pybullet_data.getDataPath", return_value=folder):
        _draw_plainly(Path(folder))
        return PandaPictures(gym.make(name, **kwargs).unwrapped)


def _draw_plainly(folder: Path) -> None:
    """Writes the arm into a folder with the shapes by which it collides as those that are seen.

    They have 3,500 faces in the place of 102,000: a picture takes a tenth of the time, and the arm moves as it did.
    """
    import pybullet_data  # type: ignore[import-untyped]

    own = Path(pybullet_data.__file__).parent / "franka_panda"
    (folder / own.name).mkdir()
    (folder / own.name / "meshes").symlink_to(own / "meshes")
    text = (own / "panda.urdf").read_text(encoding="utf-8")
    (folder / own.name / "panda.urdf").write_text(text.replace("meshes/visual/", "meshes/collision/"), encoding="utf-8")


REACH, PUSH = (f"{__name__}:Panda{name}Pictures-v0" for name in ("Reach", "Push"))
"""Ids, with the module that `gymnasium.make` has to import for them."""
for _id, _name, _steps in ((REACH, "PandaReach-v3", 20), (PUSH, "PandaPush-v3", 40)):
    register(_id.split(":")[1], entry_point=f"{__name__}:make", max_episode_steps=_steps, kwargs={"name": _name})

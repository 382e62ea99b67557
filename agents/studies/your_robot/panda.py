"""panda-gym with pictures: two cameras, the state of the hand, and goal pictures.

In panda-gym (Gallouédec et al. 2021), observations contain the true positions of everything. Here, they are what a real
robot has: pictures, and position and velocity of the hand. The goal is also given as pictures, of the arm (reach) or
the object (push) at its target. The marker of the goal is hidden.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

SIDE = 64
"""Side of a picture in pixels."""
_HIDDEN = np.array([0.0, 0.0, -9.0])
"""Position of the hidden goal marker, in m."""
_UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
_DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""Orientations: of objects, and of the hand that points down."""
_PLACE = {"cameraTargetPosition": (0.0, 0.0, 0.08), "distance": 0.85, "pitch": -35, "roll": 0, "upAxisIndex": 2}
_CAMERAS = {"left": 0, "right": 180}
"""Yaw of each camera, in degrees. What the hand hides from one camera is visible to the other, and together they show
depth."""
_FARTHEST, _FASTEST = 2.0, 5.0
"""Bounds of the position and velocity of the hand, in m and m/s."""


class PandaPictures(gym.Wrapper[Any, Any, Any, Any]):
    """Replaces the observations of a panda-gym environment with pictures; success counts at the end of the episode.

    Observations are `left` and `right`, `(64, 64, 3)` uint8, and `hand`, `(6,)`: x, y, z and their velocities.

    Args:
        env: PandaReach or PandaPush, controlled by displacements of the hand.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        world: Any = env.unwrapped
        self.sim, self.robot, self.task = world.sim, world.robot, world.task
        self.client = self.sim.physics_client
        self.moves_object = "object" in self.sim._bodies_idx
        bound: np.ndarray = np.repeat(np.array([_FARTHEST, _FASTEST], np.float32), 3)
        shown = {name: spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8) for name in _CAMERAS}
        self.observation_space = spaces.Dict({**shown, "hand": spaces.Box(-bound, bound)})
        self._views = {
            name: self.client.computeViewMatrixFromYawPitchRoll(**_PLACE, yaw=yaw) for name, yaw in _CAMERAS.items()
        }
        self._lens = self.client.computeProjectionMatrixFOV(fov=45, aspect=1, nearVal=0.1, farVal=5)

    @property
    def goal_observation(self) -> dict[str, np.ndarray]:
        """The goal pictures of this episode."""
        return self._goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment, and takes the goal pictures."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.sim.set_base_pose("target", _HIDDEN, _UPRIGHT)
        before = self.sim.save_state()
        if self.moves_object:
            self.sim.set_base_pose("object", obs["desired_goal"], _UPRIGHT)
        else:
            for _ in range(10):  # each iteration starts from the previous solution
                angles = self.robot.inverse_kinematics(self.robot.ee_link, obs["desired_goal"], _DOWN)
                self.robot.set_joint_angles(angles)
        self._goal = self._pictures()
        self.sim.restore_state(before)
        self.sim.remove_state(before)
        return self._observed(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves the arm; episodes are truncated but never terminate."""
        _, reward, _, truncated, info = self.env.step(action)
        return self._observed(), float(reward), False, truncated, info

    def render(self) -> Any:
        """Returns the pictures of all cameras, side by side."""
        return np.concatenate(list(self._pictures().values()), 1)

    def _observed(self) -> dict[str, np.ndarray]:
        hand = np.concatenate([self.robot.get_ee_position(), self.robot.get_ee_velocity()]).astype(np.float32)
        return {**self._pictures(), "hand": hand}

    def _pictures(self) -> dict[str, np.ndarray]:
        """Takes a picture with each camera, without shadows, which would take most of the time."""
        seen = {}
        for name, view in self._views.items():
            *_, rgba, _, _ = self.client.getCameraImage(
                SIDE, SIDE, view, self._lens, shadow=0, renderer=self.client.ER_TINY_RENDERER,
                flags=self.client.ER_NO_SEGMENTATION_MASK,
            )  # fmt: skip
            seen[name] = np.asarray(rgba, np.uint8).reshape(SIDE, SIDE, 4)[..., :3].copy()
        return seen


def make(name: str, **kwargs: Any) -> gym.Env:
    """Creates the environment of a panda-gym id, such as "PandaReach-v3", with pictures.

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
    """Writes the arm's description into a folder, with its collision meshes as visual meshes.

    These have 3,500 faces instead of 102,000: a picture takes a tenth of the time, and the arm moves as before.
    """
    import pybullet_data  # type: ignore[import-untyped]

    own = Path(pybullet_data.__file__).parent / "franka_panda"
    (folder / own.name).mkdir()
    (folder / own.name / "meshes").symlink_to(own / "meshes")
    text = (own / "panda.urdf").read_text(encoding="utf-8")
    (folder / own.name / "panda.urdf").write_text(text.replace("meshes/visual/", "meshes/collision/"), encoding="utf-8")


REACH, PUSH = (f"{__name__}:Panda{name}Pictures-v0" for name in ("Reach", "Push"))
"""Gymnasium ids, with the module that `gymnasium.make` has to import."""
for _id, _name, _steps in ((REACH, "PandaReach-v3", 20), (PUSH, "PandaPush-v3", 50)):
    register(_id.split(":")[1], entry_point=f"{__name__}:make", max_episode_steps=_steps, kwargs={"name": _name})

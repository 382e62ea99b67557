"""NICOL's cameras: where they stand, what they see, and the picture itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dream_env.nicol.bullet import pybullet


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, world frame.

    Attributes:
        position: Optical center (m).
        target: Point looked at (m).
        up: Direction that stands upright in the picture.
        fov: Vertical field of view (degrees).
        size: Width and height of the picture (pixels).
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fov: float
    size: tuple[int, int]

    def mirrored(self) -> Camera:
        """Returns this camera mirrored in y, for the left arm."""
        (px, py, pz), (tx, ty, tz), (ux, uy, uz) = self.position, self.target, self.up
        return replace(self, position=(px, -py, pz), target=(tx, -ty, tz), up=(ux, -uy, uz))

    def picture(
        self,
        client: int,
        light: tuple[float, float, float] = (0.4, -0.4, 1.5),
        brightness: float = 1.0,
        shadow: bool = False,
    ) -> np.ndarray:
        """Takes a picture `(height, width, 3)` uint8 with PyBullet's CPU renderer.

        Shadows, which take twice as long as all the rest, are off by default, and so is the segmentation mask. A small
        field of view loses nothing: near and far planes stand close around the scene.
        """
        width, height = self.size
        view = pybullet.computeViewMatrix(self.position, self.target, self.up)
        projection = pybullet.computeProjectionMatrixFOV(self.fov, width / height, 0.05, 6.0)
        _, _, rgba, _, _ = pybullet.getCameraImage(
            width,
            height,
            view,
            projection,
            lightDirection=light,
            lightColor=(brightness,) * 3,  # always told: PyBullet keeps that of the picture before
            shadow=int(shadow),
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=client,
        )
        return np.reshape(np.asarray(rgba, np.uint8), (height, width, 4))[..., :3].copy()


CAMERAS = {
    # The policy's picture, from NICOL's left and a little in front of the hand: before, in and after a grasp the cube
    # shows between thumb and fingers, and height can be told from the picture. From further in front, from the right
    # and from above (the frame's RealSense) the hand hides the cube that it grasps; from further back and from lower
    # down the cubes hide each other.
    "workspace": Camera((0.795, 0.549, 1.451), (0.54, -0.15, 0.91), (0, 0, 1), 27.5, (64, 64)),
    # The policy's picture in tasks for both arms: from the front, above both hands.
    "workspace_both": Camera((1.40, 0.0, 1.50), (0.42, 0.0, 0.92), (0, 0, 1), 42.0, (64, 64)),
    # The RealSense D435 of NICOL's frame (nicol.md 3.3).
    "frame": Camera((0.859, 0.035, 1.950), (0.56, 0.035, 0.80), (-1, 0, 0), 42.6, (640, 360)),
    "video": Camera((1.75, -0.75, 1.65), (0.30, -0.10, 1.0), (0, 0, 1), 42.0, (480, 360)),
}
"""Fixed cameras by name; `eye` (NICOL's left eye) moves with the head, see `dream_env.nicol.scene`."""

"""NICOL's cameras: their poses, fields of view and image sizes, and how an image is rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dream_env.nicol.bullet import pybullet


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in the world frame.

    Attributes:
        position: Optical center (m).
        target: Point that the camera looks at (m).
        up: Direction that points up in the image.
        fov: Vertical field of view (degrees).
        size: Width and height of the image (pixels).
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fov: float
    size: tuple[int, int]

    def mirrored(self) -> Camera:
        """Returns this camera mirrored in y, for use with the left arm."""
        (px, py, pz), (tx, ty, tz), (ux, uy, uz) = self.position, self.target, self.up
        return replace(self, position=(px, -py, pz), target=(tx, -ty, tz), up=(ux, -uy, uz))

    def picture(
        self,
        client: int,
        light: tuple[float, float, float] = (0.4, -0.4, 1.5),
        brightness: float = 1.0,
        shadow: bool = False,
    ) -> np.ndarray:
        """Renders an image `(height, width, 3)` uint8 with PyBullet's CPU renderer.

        Shadows are off by default, since they take twice as long as the rest of the rendering. The segmentation mask
        is never computed. The near and far planes (0.05 m and 6 m) enclose the scene closely, so cameras with a small
        field of view lose nothing.

        Args:
            client: Id of a connected PyBullet client.
            light: Direction to the light (m).
            brightness: Strength of the light.
            shadow: Whether objects cast shadows.
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
            lightColor=(brightness,) * 3,  # always passed, as PyBullet otherwise keeps the value of the last image
            shadow=int(shadow),
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=client,
        )
        return np.reshape(np.asarray(rgba, np.uint8), (height, width, 4))[..., :3].copy()


CAMERAS = {
    # The policy camera, on NICOL's left and slightly in front of the hand: before, during and after a grasp the cube is
    # visible between thumb and fingers, and its height can be estimated from the image. From further in front, from
    # the right and from above (the RealSense on the frame), the hand occludes the cube that it grasps; from further
    # back and from lower down, the cubes occlude each other.
    "workspace": Camera((0.795, 0.549, 1.451), (0.54, -0.15, 0.91), (0, 0, 1), 27.5, (64, 64)),
    # The policy camera in tasks for both arms: from the front, above both hands.
    "workspace_both": Camera((1.40, 0.0, 1.50), (0.42, 0.0, 0.92), (0, 0, 1), 42.0, (64, 64)),
    # The RealSense D435 of NICOL's frame (nicol.md 3.3).
    "frame": Camera((0.859, 0.035, 1.950), (0.56, 0.035, 0.80), (-1, 0, 0), 42.6, (640, 360)),
    "video": Camera((1.75, -0.75, 1.65), (0.30, -0.10, 1.0), (0, 0, 1), 42.0, (480, 360)),
}
"""Fixed cameras by name. The camera `eye` (NICOL's left eye) is not listed here, see `TableScene.picture`."""

"""`NicoLDream-v0`: NICOL at its table inside the shipped world model."""

from __future__ import annotations

from typing import Any

import numpy as np

from dream_env.batch import DreamBatch
from dream_env.dream import DreamEnv, DreamVectorEnv
from dream_env.initial_states import draw
from dream_env.nicol.language import color_of
from dream_env.nicol.tasks import task_of


class NicoLDreamBatch(DreamBatch):
    """Dreams in which a sentence names a task and a color."""

    OPTIONS = (*DreamBatch.OPTIONS, "image", "proprio", "goal_image")

    def restart(self, index: np.ndarray, chance: np.ndarray, options: dict[str, Any]) -> None:
        """As in `DreamBatch`; a start may also be given as `image` and `proprio`, a goal as `goal_image`."""
        if ("image" in options) != ("proprio" in options):
            raise ValueError("options: a start is both 'image' and 'proprio'; accepted: both or none")
        options = dict(options)
        if "image" in options:
            options["observation"] = {"pixels": options.pop("image"), "proprio": options.pop("proprio")}
        if "goal_image" in options:
            options["goal"] = {"pixels": options.pop("goal_image")}
        super().restart(index, chance, options)

    def fitting(self, sentence: str, task: str | None, chance: float) -> int:
        """Draws an initial state of the task that a sentence asks for, with a cube of its color as the named one."""
        own, color, states = task or task_of(sentence), color_of(sentence), self.initial_states
        named = getattr(self, "_colors", None)
        if named is None:
            known, inverse = np.unique(states.instruction, return_inverse=True)
            named = self._colors = np.array([_color(str(one)) for one in known])[inverse]
        chances = states.chances(own, self.config.middle_share, named == color) if color in named else np.zeros(1)
        if not chances.any():
            raise ValueError(f"options['instruction']={sentence!r}: no initial state of {own!r} names that color")
        return draw(chances, chance)


class NicoLDreamEnv(DreamEnv):
    """NICOL at its table, inside a learned world model.

    ## Description
    The twin of `NicoLReal-v0` without physics: a state is a map of tokens that the world model's encoder makes of a
    recorded picture, with where hand and cubes are in numbers beside it. Three 5 cm cubes lie on the table, and an
    instruction names one of them: hold the hand above it (`reach`), push it over the tape line (`push`), or lift it
    (`lift`).

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

    ## Rewards, Arguments
    See `dream_env.dream.DreamEnv`. `task` is "reach" (default), "push", "lift", or "all" for a random one in each
    episode. Beside its options `reset(options=...)` takes `image` (64, 64, 3) uint8 with its `proprio` (4,), and
    `goal_image`. A sentence sets the task, unless `task` does, and a start is drawn whose goal picture shows what it
    asks for. Beside `start` or `image` it is only what the policy is told and success is judged by: the goal picture
    that fits it is yours to give.

    ## Episode End
    Truncated after the world model's horizon, never terminated: 24 steps of the shipped ones, 40 of one that was fitted
    to `place` and `stack`. Success counts when its condition has held for the last 3 steps.

    ## Version History
    * v0: initial version.
    """

    batch_class = NicoLDreamBatch

    def __init__(self, task: str = "reach", **kwargs: Any) -> None:
        super().__init__(task=task, **kwargs)


class NicoLDreamVectorEnv(DreamVectorEnv):
    """Many dreams of NICOL moved by one forward pass, see `NicoLDreamEnv` and `DreamVectorEnv`."""

    batch_class = NicoLDreamBatch

    def __init__(self, num_envs: int = 1, task: str = "reach", **kwargs: Any) -> None:
        super().__init__(num_envs, task=task, **kwargs)


def _color(sentence: str) -> str:
    try:
        return color_of(sentence)
    except ValueError:
        return ""

"""`NicoLDream-v0`: NICOL's table-top scene, simulated by the shipped world model."""

from __future__ import annotations

from typing import Any

import numpy as np

from dream_env.batch import DreamBatch
from dream_env.dream import DreamEnv, DreamVectorEnv
from dream_env.initial_states import draw
from dream_env.nicol.language import colors_of
from dream_env.nicol.tasks import task_of


class NicoLDreamBatch(DreamBatch):
    """A batch of NICOL dreams, whose sentences name a task and a color."""

    OPTIONS = (*DreamBatch.OPTIONS, "image", "proprio", "goal_image")

    def restart(self, index: np.ndarray, chance: np.ndarray, options: dict[str, Any]) -> None:
        """Starts new episodes as `DreamBatch` does.

        The initial state may also be given as `image` and `proprio`, and the goal as `goal_image`.
        """
        if ("image" in options) != ("proprio" in options):
            raise ValueError("options: a start needs both 'image' and 'proprio'; accepted: both or none")
        options = dict(options)
        if "image" in options:
            options["observation"] = {"pixels": options.pop("image"), "proprio": options.pop("proprio")}
        if "goal_image" in options:
            options["goal"] = {"pixels": options.pop("goal_image")}
        super().restart(index, chance, options)

    def fitting(self, sentence: str, task: str | None, chance: float) -> int:
        """Draws the row of an initial state whose sentence has the same task and names the same colors in order."""
        name, colors, states = task or task_of(sentence), " ".join(colors_of(sentence)), self.initial_states
        named = getattr(self, "_colors", None)
        if named is None:
            known, inverse = np.unique(states.instruction, return_inverse=True)
            named = self._colors = np.array([_colors(str(text)) for text in known])[inverse]
        chances = states.chances(name, self.config.middle_share, named == colors) if colors in named else np.zeros(1)
        if not chances.any():
            raise ValueError(f"options['instruction']={sentence!r}: no initial state of {name!r} names {colors}")
        return draw(chances, chance)


class NicoLDreamVectorEnv(DreamVectorEnv):
    """A batch of NICOL dreams stepped by one forward pass, see `NicoLDreamEnv` and `DreamVectorEnv`."""

    batch_class = NicoLDreamBatch

    def __init__(self, num_envs: int = 1, task: str = "reach", **kwargs: Any) -> None:
        super().__init__(num_envs, task=task, **kwargs)


class NicoLDreamEnv(DreamEnv):
    """NICOL at its table, simulated by a learned world model.

    ## Description
    The counterpart of `NicoLReal-v0` without physics. The default world model, "unlabelled", describes a scene by
    slots: image position and size of every object, which its encoder finds in a recorded image. Three 5 cm cubes are
    on the table, and an instruction names one of them: hold the hand above it (`reach`), push it over the tape line
    (`push`), or lift it (`lift`).

    ## Action Space
    `Box(-1, 1, (4,), float32)`, at 10 Hz. x points away from the robot, y to its left, z up.

    | index | meaning | effect of 1.0 |
    |---|---|---|
    | 0, 1, 2 | displacement of the grasp point along x, y, z | 4 cm |
    | 3 | closing of the hand (+) or opening (-) | a quarter of the full range |

    ## Observation Space
    A flat `Dict` of float32 boxes, the same as in `NicoLReal-v0`.

    | key | shape | meaning |
    |---|---|---|
    | `embedding` | (E,) | embedding of the predicted state; E = 64, or 1024 with "state_grounded" |
    | `goal` | (E,) | embedding of the goal image, by the world model's encoder |
    | `proprio` | (4,) | the controller's set-point: grasp point and closing, normalized |
    | `instruction` | (64,) | embedding of the instruction |
    | `pixels` | (64, 64, 3) uint8 | image drawn by the decoder, with `obs_type="pixels"` |

    ## Rewards, Arguments
    See `dream_env.dream.DreamEnv`. `task` is "reach" (default), "push", "lift", or "all" for a random one in each
    episode.

    In addition to the options of `DreamEnv`, `reset(options=...)` takes `image` (64, 64, 3) uint8 together with its
    `proprio` (4,), and `goal_image`. An `instruction` sets the task, unless `task` is given, and an initial state is
    drawn whose goal image matches the instruction. Together with `start` or `image`, the instruction only sets what
    the policy is told and how success is judged; you have to pass a matching goal image yourself.

    ## Episode End
    Episodes are never terminated. They are truncated after the world model's horizon: 24 steps for the shipped models,
    40 for one that was fitted to `place` and `stack`. An episode is a success if the condition has held for its last
    3 steps.

    ## Version History
    * v0: initial version.
    """

    batch_class = NicoLDreamBatch
    vector_class = NicoLDreamVectorEnv

    def __init__(self, task: str = "reach", **kwargs: Any) -> None:
        super().__init__(task=task, **kwargs)


def _colors(sentence: str) -> str:
    """Returns the colors that a sentence names, separated by spaces; "" if it names none."""
    try:
        return " ".join(colors_of(sentence))
    except ValueError:
        return ""

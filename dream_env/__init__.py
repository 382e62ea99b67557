"""Learned world models as Gymnasium environments: `Dream-v0`, and NICOL's `NicoLDream-v0` and `NicoLReal-v0`.

Importing this package registers the environment ids. It imports neither torch nor pybullet.
"""

from gymnasium.envs.registration import register

__version__ = "0.1.0"

register(
    id="Dream-v0",
    entry_point="dream_env.dream:DreamEnv",
    vector_entry_point="dream_env.dream:DreamVectorEnv",
)
register(
    id="NicoLDream-v0",
    entry_point="dream_env.nicol.dream:NicoLDreamEnv",
    vector_entry_point="dream_env.nicol.dream:NicoLDreamVectorEnv",
)
register(
    id="NicoLReal-v0",
    entry_point="dream_env.nicol.real:make",  # applies the time limit itself: it differs between tasks
)
register(
    id="NicoLBothArms-v0",  # physics only, to record two-arm datasets; their dream is Dream-v0
    entry_point="dream_env.nicol.real:make",
    kwargs={"task": "lift_bar", "world_model": None},
)

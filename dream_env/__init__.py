"""NICOL in a learned world model (`NicoLDream-v0`) and in PyBullet (`NicoLReal-v0`), as Gymnasium environments.

Importing this package registers both ids and loads neither torch nor pybullet.
"""

from gymnasium.envs.registration import register

from dream_env.nicol.constants import EPISODE_STEPS

__version__ = "0.1.0"

register(
    id="NicoLDream-v0",
    entry_point="dream_env.dream:NicoLDreamEnv",
    vector_entry_point="dream_env.dream:NicoLDreamVectorEnv",
    max_episode_steps=EPISODE_STEPS,
)
register(
    id="NicoLReal-v0",
    entry_point="dream_env.nicol.env:NicoLRealEnv",
    max_episode_steps=EPISODE_STEPS,
)

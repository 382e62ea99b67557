"""Kinds of policies that `agents.clone --policy KIND` clones: their modules of arguments and of the command."""

from __future__ import annotations

from collections.abc import Sequence

from dream_env.data.world_name import world_named_in

OPTION = "--policy"
KINDS = {
    "vla": ("dream_env.agents.clone.arguments", "dream_env.agents.clone.command"),
    "transformer": ("dream_env.agents.clone.transformer_arguments", "dream_env.agents.clone.transformer_clone"),
    "latent": ("dream_env.agents.clone.latent_arguments", "dream_env.agents.clone.latent_clone"),
    "video": ("dream_env.agents.clone.video_arguments", "dream_env.agents.clone.video_clone"),
}
"""NICOL's state-grounded VLA, the general one, and the general ones with a world model inside."""


def default(words: Sequence[str]) -> str:
    """Returns the kind for the data that a command line names: "transformer" where they are not of NICOL's world."""
    return "vla" if world_named_in(words) in (None, "NicoLReal-v0") else "transformer"

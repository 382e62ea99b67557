"""Kinds of policies that `agents.clone --policy KIND` trains: module of the arguments and module of the command."""

from __future__ import annotations

from collections.abc import Sequence

from dream_env.data.world_name import world_named_in

OPTION = "--policy"
KINDS = {
    "vla": ("dream_env.agents.clone.vla_arguments", "dream_env.agents.clone.vla_clone"),
    "transformer": ("dream_env.agents.clone.transformer_arguments", "dream_env.agents.clone.transformer_clone"),
    "latent": ("dream_env.agents.clone.latent_arguments", "dream_env.agents.clone.latent_clone"),
    "video": ("dream_env.agents.clone.video_arguments", "dream_env.agents.clone.video_clone"),
}
"""NICOL's state-grounded VLA ("vla"), a general VLA ("transformer"), and general ones that also predict future
embeddings ("latent", "video")."""


def default(words: Sequence[str]) -> str:
    """Returns the default kind for the data of a command line: "vla" for NICOL or without data, else "transformer"."""
    return "vla" if world_named_in(words) in (None, "NicoLReal-v0") else "transformer"

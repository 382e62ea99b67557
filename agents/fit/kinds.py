"""Kinds of world models that `agents.fit --model KIND` fits: module of the arguments and module of the command."""

from __future__ import annotations

from collections.abc import Sequence

from dream_env.data.world_name import world_named_in

KINDS = {
    "state_grounded": ("dream_env.agents.fit.state_grounded.arguments", "dream_env.agents.fit.state_grounded.command"),
    "dynamics": ("dream_env.agents.fit.dynamics.arguments", "dream_env.agents.fit.dynamics.command"),
    "slots": ("dream_env.agents.fit.slots.arguments", "dream_env.agents.fit.slots.command"),
    "vmc": ("dream_env.agents.fit.vmc.arguments", "dream_env.agents.fit.vmc.command"),
    "unified": ("dream_env.agents.fit.unified.arguments", "dream_env.agents.fit.unified.command"),
}


def default(words: Sequence[str]) -> str:
    """Returns the default kind for the data of a command line: "dynamics", or "state_grounded" for NICOL or no data."""
    return "state_grounded" if world_named_in(words) in (None, "NicoLReal-v0") else "dynamics"

"""Kinds of world models that `agents.fit --model KIND` fits: module of the arguments and module of the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dream_env import hub

KINDS = {
    "state_grounded": ("dream_env.agents.fit.state_grounded.arguments", "dream_env.agents.fit.state_grounded.command"),
    "dynamics": ("dream_env.agents.fit.dynamics_arguments", "dream_env.agents.fit.dynamics_fit"),
    "slots": ("dream_env.agents.fit.slots.arguments", "dream_env.agents.fit.slots.command"),
    "vmc": ("dream_env.agents.fit.vmc_arguments", "dream_env.agents.fit.vmc_fit"),
    "unified": ("dream_env.agents.fit.unified.arguments", "dream_env.agents.fit.unified.command"),
}


def default(words: Sequence[str]) -> str:
    """Returns the default kind for the data of a command line: "dynamics", or "state_grounded" for NICOL or no data."""
    data = next((b for a, b in zip(words, words[1:], strict=False) if a == "--data"), None)
    data = next((word.removeprefix("--data=") for word in words if word.startswith("--data=")), data)
    if data is not None:
        with suppress(OSError, ValueError, AttributeError, ImportError):  # the command itself reports unreadable data
            data = str(hub.folder(data, "dataset"))
            spec = json.loads((Path(data).expanduser() / "meta" / "spec.json").read_text(encoding="utf-8"))
            return "state_grounded" if spec.get("name") == "NicoLReal-v0" else "dynamics"
    return "state_grounded"

"""Kinds of policies that `agents.clone --policy KIND` trains: module of the arguments and module of the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

OPTION = "--policy"
KINDS = {
    "vla": ("dream_env.agents.clone.arguments", "dream_env.agents.clone.command"),
    "transformer": ("dream_env.agents.clone.transformer_arguments", "dream_env.agents.clone.transformer_clone"),
    "latent": ("dream_env.agents.clone.latent_arguments", "dream_env.agents.clone.latent_clone"),
    "video": ("dream_env.agents.clone.video_arguments", "dream_env.agents.clone.video_clone"),
}
"""NICOL's state-grounded VLA ("vla"), a general VLA ("transformer"), and general ones that also predict future
embeddings ("latent", "video")."""


def default(words: Sequence[str]) -> str:
    """Returns the default kind for the data of a command line: "vla" for NICOL or without data, else "transformer"."""
    data = next((b for a, b in zip(words, words[1:], strict=False) if a == "--data"), None)
    data = next((word.removeprefix("--data=") for word in words if word.startswith("--data=")), data)
    if data is not None:
        with suppress(OSError, ValueError, AttributeError):  # the command itself reports unreadable data
            info, file = json.loads((Path(data) / "meta" / "info.json").read_text(encoding="utf-8")), Path(data)
            spec = file / "meta" / "spec.json"
            name = json.loads(spec.read_text(encoding="utf-8"))["name"] if spec.exists() else info.get("robot_type")
            return "vla" if name == "NicoLReal-v0" else "transformer"
    return "vla"

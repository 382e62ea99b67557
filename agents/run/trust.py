"""Guards against files that contain code: stable-baselines3's zips are pickles, and loading one can run any code."""

from __future__ import annotations

import os
from pathlib import Path

TRUST = "DREAM_ENV_TRUST"
"""Environment variable that `--trust` sets, so that worker processes see it, too."""


def check_trust(path: str | Path) -> None:
    """Refuses to load a zip of stable-baselines3 unless the user trusts its author.

    Raises:
        ValueError: If neither `--trust` was given nor the variable `TRUST` is set.
    """
    if not os.environ.get(TRUST):
        raise ValueError(
            f"policy={str(path)!r}: loading a zip of stable-baselines3 runs the code in it; accepted: folders with "
            f"config.json and model.safetensors, which hold none, or --trust ({TRUST}=1) if you trust its author"
        )

"""Planning with a world model: composable solvers, objectives, rollouts and priors, see docs/planning.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load(path: str | Path) -> Any:
    """Loads a planner or a foresight from its JSON file.

    Both are policies, see `dream_env.agents.policies.protocol.Policy`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither a planner nor a foresight.
    """
    from dream_env.agents.planners import foresight, planner

    kinds: dict[str, Any] = {one.kind: one for one in (planner.Planner, foresight.Foresight)}
    kind, values = planner.read(path, {name: one.config_class for name, one in kinds.items()})
    return kinds[kind](kinds[kind].config_class(**values))

"""Reads meta/info.json of a LeRobotDataset; the header that all episodes of a dataset share."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from dream_env.data.parquet import RECOLLECT

VERSION = "v3.0"
_INDEX = {"dtype": "int64", "shape": [1], "names": None}
INDICES: dict[str, dict] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": _INDEX,
    "episode_index": _INDEX,
    "index": _INDEX,
    "task_index": _INDEX,
}
"""Index features of every LeRobot dataset; the last three are added when episodes are consolidated."""


class Head(NamedTuple):
    """Header that all episodes of a dataset share.

    Attributes:
        spec: The `WorldSpec` as JSON.
        features: Maps each feature to `{"dtype", "shape", "names"}`, without `INDICES`.
    """

    spec: dict[str, Any]
    features: dict[str, dict]

    @property
    def fps(self) -> int:
        """Frames per second for info.json: `control_hz` rounded, or 10 if the spec has none."""
        return max(1, round(self.spec["control_hz"] or 10))


def read_info(path: Path) -> dict[str, Any]:
    """Reads and checks meta/info.json.

    Raises:
        ValueError: If it cannot be read, or does not have the form that LeRobot writes.
    """
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {RECOLLECT}") from error
    if fault := _fault(info):
        raise ValueError(f"{path}: {fault}" + ("" if "converts" in fault else f"; {RECOLLECT}"))
    return info


def _fault(info: Any) -> str | None:
    """Returns a description of what is wrong with the content; None if it is valid."""
    if not isinstance(info, dict):
        return f"it holds {type(info).__name__}, no object"
    if info.get("codebase_version") != VERSION:
        return (
            f"codebase_version is {info.get('codebase_version')!r}; accepted: {VERSION!r}, to which LeRobot's script "
            "convert_dataset_v21_to_v30 converts v2.1"
        )
    for key in ("total_episodes", "total_frames"):
        if type(info.get(key)) is not int or info[key] < 1:
            return f"{key} is {info.get(key)!r}; accepted: 1 or more"
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not isfinite(fps) or fps <= 0:
        return f"fps is {fps!r}; accepted: a positive number"
    features = info.get("features")
    if not isinstance(features, dict) or not features:
        return f"features is {str(features)[:80]}; accepted: one or more, by name"
    for name, feature in features.items():
        known = isinstance(feature, dict) and isinstance(feature.get("dtype"), str)
        shape = feature.get("shape") if known else None
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 10**6 for n in shape):
            return f"feature {name!r} is {str(feature)[:80]}; accepted: dtype and shape, as LeRobot writes them"
    return None

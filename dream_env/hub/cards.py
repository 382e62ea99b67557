"""Cards (README.md) of repositories on the Hub: search metadata, the folder's own README, and a usage example."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dream_env.hub.pull import library

FIGURES = 20
"""Maximum number of metrics in the metadata; metrics.json has all of them."""
COUNTS = ("episodes", "parameters", "seconds", "updates")
"""Entries of metrics.json that describe the training and are not metrics."""
USES = {
    "world model": """```python
import gymnasium as gym

env = gym.make("dream_env:Dream-v0", world_model="hf://{repo}")
```

In [LeRobot](https://huggingface.co/docs/lerobot/envhub): `make_env("{repo}", trust_remote_code=True)`, which runs the
`env.py` of this repository.""",
    "policy": """```bash
dream-env evaluate --policy hf://{repo}
```""",
    "data set": """```bash
dream-env fit --data hf://{repo} --out runs/model
```

Also loads as a [LeRobot](https://github.com/huggingface/lerobot) dataset: `LeRobotDataset("{repo}")`.""",
}


def make_card(folder: Path, kind: str, repo: str, license: str) -> str:
    """Returns the card of a repository: YAML metadata, the folder's own README.md, and a usage example.

    Args:
        folder: Folder to upload. If its README.md already has metadata, it is returned unchanged.
        kind: "world model", "policy" or "data set".
        repo: "user/name".
        license: License id as used on the Hub.
    """
    own = folder / "README.md"
    text = own.read_text(encoding="utf-8") if own.is_file() else f"# {repo}\n"
    if text.startswith("---\n"):
        return text
    spec = folder / ("meta/spec.json" if kind == "data set" else "spec.json")
    world = json.loads(spec.read_text(encoding="utf-8"))["name"] if spec.is_file() else None
    metadata = _metadata(folder, kind, repo, license, world)
    return f"---\n{metadata}\n---\n\n{text.rstrip()}\n\n## Use\n\n{USES[kind].format(repo=repo)}\n"


def _metadata(folder: Path, kind: str, repo: str, license: str, world: str | None) -> str:
    hub = library()
    tags = ["dream_env", "robotics", "gymnasium", kind.replace(" ", "-")] + ([world] if world else [])
    if kind == "data set":
        files = [{"config_name": "default", "data_files": "data/*/*.parquet"}]
        data = hub.DatasetCardData(
            license=license, task_categories=["robotics"], tags=["LeRobot", *tags], configs=files
        )
        return str(data.to_yaml())
    data = hub.ModelCardData(
        library_name="dream_env",
        license=license,
        pipeline_tag="robotics",
        tags=["reinforcement-learning", *tags],
        model_name=repo.split("/")[1],
        eval_results=list(_results(folder, world)) or None,
    )
    return str(data.to_yaml())


def _results(folder: Path, world: str | None) -> Iterator[Any]:
    """Yields the first metrics of metrics.json in the form of the Hub's metadata."""
    file = folder / "metrics.json"
    if not file.is_file():
        return
    hub = library()
    for name, value in islice(_leaves(json.loads(file.read_text(encoding="utf-8"))), FIGURES):
        yield hub.EvalResult(
            task_type="robotics",
            dataset_type="held-out-episodes",
            dataset_name=f"held-out episodes of {world or 'its world'}",
            metric_type=name,
            metric_value=round(value, 4),
        )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in COUNTS:
                yield from _leaves(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)

"""Logs a run to Weights & Biases in addition to TensorBoard, by wandb's own TensorBoard sync."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dream_env.files import write_text

ID = "wandb_id.txt"
"""File in a run's folder with the id of its wandb run, which is continued when the run is resumed."""


@contextmanager
def mirrored(out: Path, settings: Mapping[str, Any], wanted: bool = True) -> Iterator[None]:
    """Mirrors to wandb what is written to TensorBoard within this context.

    Project, entity and mode are set by wandb's environment variables.

    Args:
        out: Folder of the run; its name becomes the name of the wandb run.
        settings: Config of the wandb run.
        wanted: If False, nothing is done and wandb is not imported.

    Raises:
        ImportError: If wandb is not installed; the message says how to install it.
    """
    if not wanted:
        yield
        return
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":  # wandb is installed but one of its dependencies is missing
            raise
        raise ImportError("--wandb needs wandb: pip install dream_env[wandb]") from error
    file = out / ID
    if not file.exists():
        write_text(file, secrets.token_hex(4) + "\n")
    run = wandb.init(
        id=file.read_text(encoding="utf-8").strip(),
        resume="allow",
        name=out.name,
        dir=str(out),
        config=dict(settings),
        sync_tensorboard=True,  # works only if set before the first TensorBoard writer is created
    )
    code = 1
    try:
        yield
        code = 0
    finally:
        run.finish(exit_code=code)

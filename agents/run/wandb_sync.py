"""Weights & Biases beside TensorBoard: a run's curves are mirrored by wandb's own TensorBoard sync."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dream_env.files import write_text

ID = "wandb_id.txt"
"""File in a run's folder that tells which run of wandb goes on when the run does."""


@contextmanager
def mirrored(out: Path, settings: Mapping[str, Any], wanted: bool = True) -> Iterator[None]:
    """Mirrors what is written to TensorBoard inside; project, entity and mode are wandb's environment variables.

    Args:
        out: Folder of the run, which gives the run its name.
        settings: What wandb shows as its config.
        wanted: False does nothing, and imports nothing.

    Raises:
        ImportError: If wandb is not installed; the message tells how to.
    """
    if not wanted:
        yield
        return
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":  # it is there, and something that it needs is not
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
        sync_tensorboard=True,  # before the first TensorBoard writer is made
    )
    code = 1
    try:
        yield
        code = 0
    finally:
        run.finish(exit_code=code)

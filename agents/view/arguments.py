"""Command-line options of `agents.view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Shows a world model in the browser and lets you control it by keyboard, mouse, gamepad or a policy."""

    world_model: str = "default"
    """World model to show: "default" (the one that the first policy names, else NICOL's), or the folder
    of any world model written by agents.fit."""
    policy: tuple[str, ...] = ()
    """Policies and planners that can choose the actions, each as PATH or LABEL=PATH. PATH is a folder, the
    name of a shipped one, or the JSON file written by agents.plan or agents.foresee. The first one is active at the
    start; the page lists all of them."""
    real: str = "auto"
    """Real environment to run next to the dream with the same actions. "auto": the environment that the world model
    was fitted to, or none if it cannot be created. "none": no real environment. Otherwise a Gymnasium id (MODULE:ID
    imports MODULE first)."""
    task: str = "all"
    """Task of the initial states, for environments with several tasks. "all" draws from every task."""
    temperature: float = 1.0
    """Scale of the world model's noise: 0 always gives the most likely next state, 1 samples as the model was fitted.
    The page has a slider for it."""
    seed: int = 0
    """Seed of the initial states and of the noise."""
    history: int = 1200
    """Number of past steps to keep, that is, how far back you can rewind."""
    saves: Path = Path("view")
    """Folder for files saved from the page: GIFs, and episodes as LeRobot data sets in dream/ and real/."""
    host: str = "127.0.0.1"
    """Address to listen on. Anyone who can reach it can control the world model."""
    port: int = 8765
    """Port to listen on; 0 picks a free port."""
    open: bool = True
    """Open the page in this machine's browser."""
    bench: Path | None = None
    """Benchmark the viewer in a headless Chromium instead of serving the page, and write the figures to this JSON file:
    seconds to the first picture, pictures per second, and milliseconds from a key press to its picture."""

"""What `agents.view` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Shows a world model in the browser, to be driven by keyboard, mouse, gamepad or a policy."""

    world_model: str = "default"
    """"default" for NICOL's, or the folder of any world model that agents.fit wrote."""
    policy: tuple[str, ...] = ()
    """Policies and planners that may drive, PATH or LABEL=PATH: a folder, "default", "bc5", or the JSON file of
    agents.plan or agents.foresee. The first one drives from the start; the page has all of them to choose from."""
    real: str = "auto"
    """Real environment beside the dream, under the same actions: auto takes the one that the world model was fitted to
    and goes without where that cannot be made; none; or an id (MODULE:ID imports a module first)."""
    task: str = "all"
    """Task of the starts, in a world with several."""
    temperature: float = 1.0
    """How far chance leads from the likeliest; the page has a slider for it."""
    seed: int = 0
    """Seed of the starts and of chance."""
    history: int = 1200
    """Steps that one can go back."""
    saves: Path = Path("view")
    """Folder for what the page saves: GIFs, and episodes as LeRobot data sets in dream/ and real/."""
    host: str = "127.0.0.1"
    """Address to listen on. Whoever can reach it can drive."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    open: bool = True
    """Opens the page in this machine's browser."""
    bench: Path | None = None
    """Measures instead, in a headless Chromium, and writes the figures to this JSON file: seconds to the first picture,
    pictures per second, milliseconds from a key to its picture."""

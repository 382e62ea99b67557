"""Benchmark of the page in a real browser: time to the first picture, frame rate, and latency of key presses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from dream_env.agents.run.config import program
from dream_env.files import write_json

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS, KEYS = 10.0, 30
"""Seconds for which pictures are counted, and number of key presses."""
PATIENCE = 60.0


def chromium() -> str:
    """Returns the path of a Chromium executable.

    Raises:
        FileNotFoundError: If there is no Chromium on the PATH.
        ImportError: If Playwright, which controls it, is missing.
    """
    try:
        import playwright  # noqa: F401
    except ImportError:
        raise ImportError("the benchmark needs playwright: pip install 'dream_env[dev]'") from None
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"none of {', '.join(NAMES)} is on the PATH; `apt-get install chromium` installs one")


@contextmanager
def browser() -> Iterator[Any]:
    """Launches a headless Chromium, see `chromium`."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def viewer(*words: str, core: int | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """Runs `agents.view` on a free port and yields the address of its page and its process.

    Args:
        *words: Options of the command.
        core: The only CPU core that the process may use; None for all.

    Raises:
        ValueError: If the process ends before it serves the page; the message contains its output.
    """
    line = [sys.executable, "-m", "dream_env.agents.view", "--no-open", "--port", "0", *words]
    pinned = None if core is None else lambda: os.sched_setaffinity(0, {core})
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=pinned
    ) as process:
        assert process.stdout is not None
        said = []
        try:
            for text in process.stdout:
                said.append(text)
                if text.startswith("http"):
                    yield text.split()[0], process
                    return
            raise ValueError(f"the viewer ended: {' '.join(said)}")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Polls a function until its result is true, and returns the result.

    Raises:
        TimeoutError: If that takes longer than `seconds`.
    """
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
    return found


def rate(page: Any, speed: str, seconds: float) -> float:
    """Returns the number of pictures drawn per second at a speed setting."""
    page.select_option("#speed", speed)
    time.sleep(0.5)
    first, began = page.evaluate("dreamView.frames"), time.monotonic()
    time.sleep(seconds)
    last, ended = page.evaluate("dreamView.frames"), time.monotonic()
    page.select_option("#speed", "1")
    return (last - first) / (ended - began)


def latencies(page: Any, key: str, count: int) -> list[float]:
    """Presses a key at random times and returns the milliseconds from each press to the picture with its effect."""
    known, rng = page.evaluate("dreamView.latency.length"), random.Random(0)
    for i in range(count):
        page.keyboard.down(key)
        until(partial(page.evaluate, f"dreamView.latency.length > {known + i}"))
        page.keyboard.up(key)
        time.sleep(rng.uniform(0.25, 0.45))
    return page.evaluate(f"dreamView.latency.slice({known})")


def measure(world_model: str, real: str) -> dict[str, Any]:
    """Measures the page with one setting of `real`.

    Args:
        world_model: Option `world_model` of the command.
        real: Option `real` of the command.
    """
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    with browser() as opened:
        page = opened.new_page(viewport={"width": 1280, "height": 800})
        began = time.monotonic()
        with viewer("--world-model", world_model, "--real", real, core=core) as (url, process):
            page.goto(url)
            until(lambda: page.evaluate("dreamView.frames"))
            first = time.monotonic() - began
            used, before = psutil.Process(process.pid), time.monotonic()
            spent = sum(used.cpu_times()[:2])
            normal = rate(page, "1", SECONDS)
            spent = (sum(used.cpu_times()[:2]) - spent) / (time.monotonic() - before)
            fast = rate(page, "4", SECONDS / 2)
            waits = sorted(latencies(page, "d", KEYS))
    return {
        "seconds_to_first_picture": round(first, 2),
        "pictures_per_second": round(normal, 2),
        "pictures_per_second_at_4x": round(fast, 2),
        "key_to_picture_ms": {
            "median": round(statistics.median(waits), 1),
            "p95": round(waits[int(0.95 * (len(waits) - 1))], 1),
            "largest": round(waits[-1], 1),
            "keys": len(waits),
        },
        "server_cores": round(spent, 3),
    }


def bench(out: Path, world_model: str) -> str:
    """Measures the page without and with the real environment, and writes a JSON file.

    Args:
        out: Path of the file.
        world_model: Name or folder of the world model.

    Returns:
        The figures as JSON text.
    """
    words = [] if world_model == "default" else ["--world-model", world_model]
    figures = {
        "command": " ".join([program("view"), *words, "--bench", os.path.relpath(out)]),
        "about": "The viewer has one core; the browser, a headless Chromium that draws without a GPU, has all of them.",
        "cores": os.cpu_count(),
        "load_before": [round(x, 1) for x in os.getloadavg()[:1]][0],
        "dream": measure(world_model, "none"),
        "dream_and_real": measure(world_model, "auto"),
    }
    write_json(out, figures)
    return json.dumps(figures, indent=1)

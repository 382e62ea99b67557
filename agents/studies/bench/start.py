"""Describes the machine, and measures startup time and memory in fresh processes: imports, `make`, first step."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from dream_env.agents.run.workers import cores

PACKAGES = ("torch", "numpy", "gymnasium", "stable_baselines3", "rl_zoo3", "pybullet", "torchrl", "tensordict", "skrl")

_START = """
import json, sys, time
def note(name):
    now = time.perf_counter(), time.process_time()
    times[name] = now[0] - last[0], now[1] - last[1]
    last[:] = time.perf_counter(), time.process_time()
times, last = {}, [time.perf_counter(), time.process_time()]
import dream_env
note("import dream_env")
import torch
note("import torch, after that")
torch.set_num_threads(1)
import gymnasium
count, arguments = int(sys.argv[1]), {"world_model": sys.argv[2]}
last[:] = time.perf_counter(), time.process_time()
if count:
    env = gymnasium.make_vec("NicoLDream-v0", num_envs=count, **arguments)
else:
    env = gymnasium.make("NicoLDream-v0", **arguments)
note("make")
env.reset(seed=0)
note("first reset")
env.step(env.action_space.sample())
note("first step")
for _ in range(3):
    env.step(env.action_space.sample())
# Linux hands getrusage's peak on from the process that started this one; this one is its own.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([times, int(status["VmHWM"].split()[0]) / 1024]))
"""


def start_up(repeats: int, world_model: str) -> list[dict[str, Any]]:
    """Measures the time from a fresh interpreter to the first step of `NicoLDream-v0`.

    Args:
        repeats: Number of processes, run one after the other; the medians are returned.
        world_model: Checkpoint of the world model.

    Returns:
        Records of `what`, `seconds` and `cpu_seconds`.
    """
    runs = [_fresh(0, world_model)[0] for _ in range(repeats)]
    return [
        {"what": what, "seconds": median(r[what][0] for r in runs), "cpu_seconds": median(r[what][1] for r in runs)}
        for what in runs[0]
    ]


def memory(batches: tuple[int, ...], world_model: str) -> list[dict[str, Any]]:
    """Measures the peak memory (MiB) of a process after four steps; batch size 0 is a single environment."""
    return [{"num_envs": batch, "mib": round(_fresh(batch, world_model)[1])} for batch in (0, *batches)]


def _fresh(num_envs: int, world_model: str) -> tuple[dict[str, tuple[float, float]], float]:
    command = [sys.executable, "-c", _START, str(num_envs), world_model]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a fresh process with {num_envs} dreams failed: {done.stderr[-2000:]}")
    times, mib = json.loads(done.stdout)
    return times, mib


def machine() -> dict[str, Any]:
    """Describes the machine: processor, cores, memory, system."""
    found = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        found = lines[0].split(":", 1)[1].strip() if lines else found
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"processor": found, "cores": cores(), "memory_gib": memory, "system": platform.platform()}


def about(world_model: str, command: str) -> dict[str, Any]:
    """Returns the description of a run: command, date, machine, versions and world model."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "versions": versions(),
        "world_model": world_model,
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed packages that affect speed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

"""Speed of a piece of work that repeats: against two clocks, in one process or in several at once."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import BrokenBarrierError
from typing import Any

import torch
from tqdm import tqdm

from dream_env.agents import pool

Work = Callable[[], int]
"""Does a piece of work and returns how many steps (actions, frames) it was."""
Turn = tuple[int, float, float]
"""Steps, seconds, and seconds of CPU time."""
PATIENCE = 300.0
"""Seconds that processes wait for each other."""

_gate: Any = None


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes:
        what: Its name in the table.
        make: A function of a module that prepares the work, called with `num_envs` and `arguments`.
        num_envs: Environments (or rows of a batch) side by side, in each process.
        arguments: Further arguments of `make`.
        device: Device of the networks, for the table.
        processes: Processes that do the same at the same time.
        threads: Threads that share a batch of dreams, in each process; torch has one, as in every command here.
    """

    what: str
    make: Callable[..., Work]
    num_envs: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    processes: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Row:
    """A case and its speed: the best of a few turns, since whatever else a machine does can only slow it down.

    Attributes:
        what: Name of the case.
        num_envs: See `Case`.
        device: See `Case`.
        processes: See `Case`.
        threads: See `Case`.
        steps_per_s: Steps of all processes together per second.
        steps_per_cpu_s: The same per second of CPU time.
    """

    what: str
    num_envs: int
    device: str
    processes: int
    threads: int
    steps_per_s: float
    steps_per_cpu_s: float


def clock(case: Case, seconds: float, repeats: int) -> Row:
    """Measures a case.

    Args:
        case: What to measure.
        seconds: Length of a turn; it has at least one piece of work.
        repeats: Number of turns, after one piece that does not count.
    """
    gate = multiprocessing.get_context("spawn").Barrier(case.processes, timeout=PATIENCE)
    run = partial(_run, seconds=seconds, repeats=repeats)
    cases, initializer = [case] * case.processes, partial(_share, gate)
    together = list(zip(*pool.imap(run, cases, case.processes, initializer=initializer), strict=True))
    return Row(
        case.what,
        case.num_envs,
        case.device,
        case.processes,
        case.threads,
        max(sum(steps / wall for steps, wall, _ in turn) for turn in together),
        max(sum(steps for steps, *_ in turn) / max(sum(cpu for *_, cpu in turn), 1e-9) for turn in together),
    )


def clock_all(
    lists: Mapping[str, Sequence[Case]], seconds: float, repeats: int, progress: bool = True
) -> dict[str, list[Row]]:
    """Measures lists of cases, and tells every figure at once: a run that is cut short has shown what it found.

    Args:
        lists: Cases, by the name of their list.
        seconds: See `clock`.
        repeats: See `clock`.
        progress: Shows the figures and a progress bar.
    """
    rows: dict[str, list[Row]] = {name: [] for name in lists}
    with tqdm(total=sum(map(len, lists.values())), desc="bench", unit="row", disable=not progress) as bar:
        for name, case in [(name, case) for name, group in lists.items() for case in group]:
            bar.set_postfix_str(f"{case.what}, {case.num_envs}")
            rows[name].append(row := clock(case, seconds, repeats))
            if progress:
                bar.write(
                    f"{row.what}, {row.num_envs}, {row.device}: {row.steps_per_s:,.6g} per second", file=sys.stderr
                )
            bar.update()
    return rows


def _share(gate: Any) -> None:
    """Gives a process the barrier at which all of them meet before every turn."""
    global _gate
    _gate = gate


def _run(case: Case, seconds: float, repeats: int) -> list[Turn]:
    """Takes a process's part in the turns."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pool.variables(DREAM_ENV_THREADS=str(case.threads)):
            work = case.make(case.num_envs, **case.arguments)
            work()
            turns = []
            for _ in range(repeats):
                _gate.wait()
                steps, wall, cpu = 0, time.perf_counter(), time.process_time()
                while not steps or time.perf_counter() - wall < seconds:
                    steps += work()
                turns.append((steps, time.perf_counter() - wall, time.process_time() - cpu))
            return turns
    except BrokenBarrierError as error:
        raise RuntimeError(f"{case.what}: another process failed, or was not ready within {PATIENCE:.0f} s") from error
    except BaseException:
        _gate.abort()
        raise
    finally:
        torch.set_num_threads(before)

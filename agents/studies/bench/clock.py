"""Measures the speed of repeated work in wall time and CPU time, in one process or in several at once."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import BrokenBarrierError
from typing import Any

import torch

from dream_env.agents.run import workers as pool
from dream_env.progress import progress_bar

Work = Callable[[], int]
"""Does one piece of work and returns its number of steps (or actions, frames)."""
Turn = tuple[int, float, float]
"""Steps, seconds of wall time, and seconds of CPU time."""
PATIENCE = 300.0
"""Seconds that processes wait for each other at most."""

_gate: Any = None


@dataclass(frozen=True)
class Case:
    """One case to measure.

    Attributes:
        what: Name in the table.
        make: Module-level function that prepares the work, called with `num_envs` and `arguments`.
        num_envs: Number of environments (or rows of a batch) in each process.
        arguments: Further arguments of `make`.
        device: Device of the networks, for the table.
        processes: Number of processes that do the same work at the same time.
        threads: Threads that share a batch of dreams, in each process; torch itself uses one thread.
        compared: Cases of a list with the same word here are measured in turns.
    """

    what: str
    make: Callable[..., Work]
    num_envs: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    processes: int = 1
    threads: int = 1
    compared: str = ""


@dataclass(frozen=True)
class Row:
    """A case and its speed, the best of a few turns, since other load on the machine can only slow it down.

    Attributes:
        what: Name of the case.
        num_envs: See `Case`.
        device: See `Case`.
        processes: See `Case`.
        threads: See `Case`.
        steps_per_s: Steps per second of all processes together.
        steps_per_cpu_s: Steps per second of CPU time of all processes together.
    """

    what: str
    num_envs: int
    device: str
    processes: int
    threads: int
    steps_per_s: float
    steps_per_cpu_s: float


def clock(cases: Sequence[Case], seconds: float, repeats: int) -> list[Row]:
    """Measures cases in turns, so that a temporary slowdown of the machine affects all of them.

    Args:
        cases: Cases to measure, each in as many processes as the first.
        seconds: Length of a turn; a turn has at least one piece of work.
        repeats: Number of turns of each case, after one piece of work to warm up.
    """
    processes = cases[0].processes
    gate = multiprocessing.get_context("spawn").Barrier(processes, timeout=PATIENCE)
    run, initializer = partial(_run, seconds=seconds, repeats=repeats), partial(_share, gate)
    parts = list(pool.imap(run, [cases] * processes, processes, initializer=initializer))
    rows = []
    for i, case in enumerate(cases):
        together = list(zip(*(part[i] for part in parts), strict=True))
        wall = max(sum(steps / wall for steps, wall, _ in turn) for turn in together)
        cpu = max(sum(steps for steps, *_ in turn) / max(sum(cpu for *_, cpu in turn), 1e-9) for turn in together)
        rows.append(Row(case.what, case.num_envs, case.device, processes, case.threads, wall, cpu))
    return rows


def clock_all(
    lists: Mapping[str, Sequence[Case]], seconds: float, repeats: int, progress: bool = True
) -> dict[str, list[Row]]:
    """Measures lists of cases, and prints every figure immediately, so that an interrupted run has shown its results.

    Args:
        lists: Maps the name of a list to its cases.
        seconds: See `clock`.
        repeats: See `clock`.
        progress: Whether to show the figures and a progress bar.
    """
    rows: dict[str, list[Row]] = {name: [] for name in lists}
    with progress_bar(total=sum(map(len, lists.values())), desc="bench", unit="row", disable=not progress) as bar:
        for name, cases in _groups(lists):
            bar.set_postfix_str(f"{cases[0].what}, {cases[0].num_envs}")
            for row in clock(cases, seconds, repeats):
                rows[name].append(row)
                if progress:
                    figure = f"{row.what}, {row.num_envs}, {row.device}: {row.steps_per_s:,.6g} per second"
                    bar.write(figure, file=sys.stderr)
                bar.update()
    return rows


def _groups(lists: Mapping[str, Sequence[Case]]) -> Iterator[tuple[str, list[Case]]]:
    """Yields the groups of cases that are measured in turns, with the name of their list."""
    for name, cases in lists.items():
        groups: dict[Any, list[Case]] = {}
        for case in cases:
            groups.setdefault(case.compared or id(case), []).append(case)
        yield from ((name, group) for group in groups.values())


def _share(gate: Any) -> None:
    """Stores in a process the barrier at which all processes wait before every turn."""
    global _gate
    _gate = gate


def _run(cases: Sequence[Case], seconds: float, repeats: int) -> list[list[Turn]]:
    """Runs all turns of all cases in one of the processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    turns: list[list[Turn]] = [[] for _ in cases]
    try:
        works = []
        for case in cases:
            with pool.variables(DREAM_ENV_THREADS=str(case.threads)):
                works.append(case.make(case.num_envs, **case.arguments))
                works[-1]()
        for _ in range(repeats):
            for case, work, own in zip(cases, works, turns, strict=True):
                _gate.wait()
                with pool.variables(DREAM_ENV_THREADS=str(case.threads)):
                    steps, wall, cpu = 0, time.perf_counter(), time.process_time()
                    while not steps or time.perf_counter() - wall < seconds:
                        steps += work()
                    own.append((steps, time.perf_counter() - wall, time.process_time() - cpu))
        return turns
    except BrokenBarrierError as error:
        names = ", ".join(case.what for case in cases)
        raise RuntimeError(f"{names}: another process failed, or was not ready within {PATIENCE:.0f} s") from error
    except BaseException:
        _gate.abort()
        raise
    finally:
        torch.set_num_threads(before)

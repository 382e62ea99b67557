"""Benchmarks world model, environments, training and planning on this machine: `python -m agents.studies.bench`.

One run measures both environments, the predictor alone, matrix multiplication as the limit, practice, acting, fitting,
startup and memory, and writes one report. Run it on an idle machine: only the ratios of one thread are computed from
CPU time, which other jobs affect less.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dream_env.agents.fit.trainer import has_bfloat16
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.run.workers import cores
from dream_env.agents.studies.bench import gpu
from dream_env.agents.studies.bench.arguments import Arguments
from dream_env.agents.studies.bench.cases import SQUARES, cases, flops_per_step, multiply
from dream_env.agents.studies.bench.clock import Case, Row, clock_all
from dream_env.agents.studies.bench.learn import action_cases, fit_cases, practice_cases
from dream_env.agents.studies.bench.peers import peer_cases
from dream_env.agents.studies.bench.report import draw_speeds, headline, page, ratios
from dream_env.agents.studies.bench.start import about, memory, start_up
from dream_env.files import write_json, write_text

BATCHES = (1, 16, 256, 1024, 4096)
PRACTICE, ROWS = 256, 128
"""Dreams of a learner, as in `agents.train`; and the batch size of acting, also the number of candidates of a plan."""
DTYPES = ("float32", "bfloat16") if has_bfloat16("cpu") else ("float32",)
"""Types of the matrix products. On CPUs without bfloat16 instructions a single product in bfloat16 takes a minute."""


def run_benchmark(args: Arguments, progress: bool = True) -> dict[str, Any]:
    """Runs every measurement.

    Args:
        args: See `Arguments`.
        progress: Whether to show a progress bar.

    Returns:
        The contents of bench.json.
    """
    torch.set_num_threads(1)
    model = args.world_model
    lists = {"matmul": _matmuls(), **_lists(args)}
    seconds, repeats = (0.01, 1) if args.quick else (args.seconds, args.repeats)
    rows = clock_all(lists, seconds, repeats, progress)
    flops = flops_per_step(model)
    result = {
        **about(model, command_line("studies.bench", args)),
        "threads": {"torch": "as in each row", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        **_rates(rows.pop("matmul")),
        "predictor_flops_per_step": flops["predictor"],
        "flops_per_step": flops,
        **{name: [asdict(row) for row in group] for name, group in rows.items()},
        "start": start_up(1 if args.quick else 5, model),
        "memory": memory((4,) if args.quick else (256, 4096), model),
    }
    figures = ratios(result)
    return result | {"ratios": figures, "headline": headline(figures)}


def _lists(args: Arguments) -> dict[str, list[Case]]:
    """Returns the cases to measure, by the name of their list in bench.json."""
    batches, dreams, rows, parallel = ((1, 4), 4, 4, 1) if args.quick else (BATCHES, PRACTICE, ROWS, cores())
    model = args.world_model
    return {
        "steps": cases(batches, model, parallel, compiles=not args.quick)
        + (peer_cases(batches, model) if args.peers else []),
        "practice": practice_cases(dreams, model, parallel, compiles=not args.quick),
        "actions": action_cases(rows, model),
        "frames": fit_cases(model, args.quick),
    }


def _matmuls() -> list[Case]:
    """Returns the products of square matrices from which the machine's best rate is taken."""
    return [
        Case(f"{side} x {side} x {side}", multiply, 1, {"shape": (side, side, side), "dtype": dtype}, dtype)
        for dtype in DTYPES
        for side in SQUARES
    ]


def _rates(rows: list[Row]) -> dict[str, Any]:
    """Returns the rates of matrix products (GFLOP per second of CPU time): the best in float32, and all of them."""
    rates = [{"shape": row.what, "dtype": row.device, "gflops": row.steps_per_cpu_s / 1e9} for row in rows]
    best = max(float(rate["gflops"]) for rate in rates if rate["dtype"] == "float32")  # type: ignore[arg-type]
    return {"matmul_gflops": best, "matmul": rates}


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.folder)
    warnings.simplefilter("ignore")
    if args.device == "cpu":
        result = run_benchmark(args)
        draw_speeds(result, args.folder / "bench.png")
        _write(args.folder / "bench", result, page(result))
    elif torch.cuda.is_available():
        seconds, repeats = (0.01, 1) if args.quick else (args.seconds, args.repeats)
        command = command_line("studies.bench", args)
        for result in gpu.measure(args.device, args.world_model, args.quick, seconds, repeats, command=command):
            _write(args.folder / "bench_cuda", result, gpu.page(result))
    else:
        raise SystemExit("device='cuda': torch finds no GPU on this machine; accepted here: 'cpu'")


def _write(path: Path, result: dict[str, Any], text: str) -> None:
    """Writes a result to `path` with .json and .md, and prints the text."""
    write_json(path.with_suffix(".json"), result)
    write_text(path.with_suffix(".md"), text)
    print(text)

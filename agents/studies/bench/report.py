"""Turns the figures of `agents.studies.bench` into ratios, a Markdown page, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.bench.cases import COMPILED, HALVED
from dream_env.agents.studies.bench.peers import SYNC, TORCHRL

VECTOR, BARE = "NicoLDream-v0, vector", "bare predictor"
PHYSICS, TWIN = "NicoLReal-v0, picture", "NicoLReal-v0, picture and encoder"
TARGETS: dict[str, tuple[str, str, float]] = {
    "vector_over_bare": ("vector env / bare predictor, at batches of 256 and more", "≥", 0.85),
    "bare_over_matmul": ("bare predictor's multiplications / the machine's best rate", "≥", 0.5),
    "dream_over_physics": ("vector env / physics with its picture, both on all cores", "≥", 30),
    "single_steps_per_s": ("single env, steps per second", "≥", 400),
    "ppo_steps_per_s": ("SB3 PPO on the VLA (agents.train), end to end, steps per second", "≥", 5000),
    "zoo_over_ppo": ("rl_zoo3 / agents.train, the same PPO and policy", "≥", 0.8),
    "torchrl_1": ("vector env / TorchRL's WorldModelEnv around the same model, batch 1", "≥", 5),
    "torchrl_4096": ("the same, batch 4096", "≥", 1),
    "import_s": ("import dream_env, seconds", "≤", 0.3),
    "make_reset_s": ("make and reset after import of torch, seconds", "≤", 1.5),
}
"""Description, sign and target of each ratio."""


def ratios(result: dict[str, Any]) -> dict[str, float | None]:
    """Computes ratios of rows of one run; None if a row was not measured.

    Ratios of one thread use steps per second of CPU time, the others steps per second of wall time.
    """

    def rows(what: str, where: str = "steps") -> list[dict[str, Any]]:
        return [row for row in result[where] if row["what"] == what]

    def fastest(what: str, where: str = "steps") -> float | None:
        return max((row["steps_per_s"] for row in rows(what, where)), default=None)

    def alone(what: str) -> dict[int, float]:
        return {row["num_envs"]: row["steps_per_cpu_s"] for row in rows(what) if row["processes"] == 1}

    def over(one: float | None, other: float | None) -> float | None:
        return one / other if one is not None and other is not None else None

    vector, single, peer = alone(VECTOR), alone(BARE), alone(TORCHRL)
    large = [batch for batch in single if batch >= 256] or list(single)
    done = max(single[batch] for batch in large) * result["predictor_flops_per_step"]
    vla = fastest("SB3 PPO, VLA (agents.train)", "practice")
    start = {row["what"]: row["seconds"] for row in result["start"]}
    return {
        "vector_over_bare": min(vector[batch] / single[batch] for batch in large),
        "bare_over_matmul": done / (1e9 * result["matmul_gflops"]),
        "dream_over_physics": over(fastest(VECTOR), fastest(PHYSICS)),
        "dream_bfloat16_over_physics": over(fastest(HALVED), fastest(PHYSICS)),
        "dream_compiled_over_physics": over(fastest(COMPILED), fastest(PHYSICS)),
        "dream_over_twin": over(fastest(VECTOR), fastest(TWIN)),
        "single_steps_per_s": fastest("NicoLDream-v0, single"),
        "single_compiled_steps_per_s": fastest("NicoLDream-v0, single, compiled"),
        "ppo_steps_per_s": vla,
        "ppo_plain_steps_per_s": fastest("SB3 PPO, MultiInputPolicy", "practice"),
        "ppo_plain_compiled_steps_per_s": fastest("SB3 PPO, MultiInputPolicy, compiled", "practice"),
        "zoo_over_ppo": over(fastest("rl_zoo3 PPO, VLA", "practice"), vla),
        "torchrl_1": over(vector.get(1), peer.get(1)),
        "torchrl_4096": over(vector.get(4096), peer.get(4096)),
        "import_s": start["import dream_env"],
        "make_reset_s": start["make"] + start["first reset"],
    }


def headline(figures: Mapping[str, float | None]) -> list[dict[str, str]]:
    """Compares ratios with their targets: records of `figure`, `asked`, `measured`, `met`."""
    records = []
    for name, (what, sign, target) in TARGETS.items():
        value = figures[name]
        met = "–" if value is None else "yes" if (value >= target if sign == "≥" else value <= target) else "no"
        measured = "not measured" if value is None else _figure(value)
        records.append({"figure": what, "asked": f"{sign} {target:g}", "measured": measured, "met": met})
    return records


def page(result: dict[str, Any]) -> str:
    """Renders bench.json as Markdown: the targets first, then every row."""
    asked = [list(record.values()) for record in result["headline"]]
    machine, flops = result["machine"], result["flops_per_step"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    start = [[row["what"], f"{row['seconds']:.3f}", f"{row['cpu_seconds']:.3f}"] for row in result["start"]]
    memory = [[row["num_envs"] or "single", row["mib"]] for row in result["memory"]]
    products = [[row["shape"], row["dtype"], f"{row['gflops']:.1f}"] for row in result["matmul"]]
    parts = [
        "# What dreaming costs",
        f"`{result['command']}`, {result['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {versions}; OMP_NUM_THREADS="
        f"{result['threads']['OMP_NUM_THREADS']}. World model: {result['world_model']}.",
        markdown_table(list(result["headline"][0]), asked),
        "Ratios of one thread are taken per second of CPU time, those of all cores per second. Every row is the best "
        "of a few turns; the vector env and the bare predictor at one batch take them by turns. Steps of dreams hold "
        "their resets, those of physics do not. `of bare` is per CPU second, "
        "against the bare predictor at the same batch; `of physics` is per second, against physics with its picture "
        "on all cores.",
        "## Steps",
        _speeds(result, "steps"),
        "## Practice, end to end",
        _speeds(result, "practice"),
        "## Actions",
        _speeds(result, "actions"),
        "## Frames per second of a fit",
        _speeds(result, "frames"),
        "## Start and peak memory",
        markdown_table(["what", "seconds", "CPU seconds"], start),
        markdown_table(["dreams", "MiB"], memory),
        "## Multiplication",
        f"One predicted step: {flops['predictor'] / 1e6:.2f} MFLOP; success head and metric "
        f"{flops['success_and_metric'] / 1e6:.2f}. Best rate of one thread: {result['matmul_gflops']:.1f} GFLOP/s.",
        markdown_table(["rows x inner x columns", "dtype", "GFLOP/CPU-s"], products),
    ]
    return "\n\n".join(parts) + "\n"


def _speeds(result: dict[str, Any], name: str) -> str:
    """Renders one of the lists of rows, with speeds relative to the bare predictor and to physics."""
    bare = {row["num_envs"]: row["steps_per_cpu_s"] for row in result["steps"] if row["what"] == BARE}
    physics = max(row["steps_per_s"] for row in result["steps"] if row["what"] == PHYSICS)
    header = ["what", "batch", "device", "processes x threads", "per second", "per CPU second"]
    header += {"steps": ["of bare", "of physics"], "practice": ["of bare", "of physics"]}.get(name, ["ms each"])
    table = []
    for row in result[name]:
        wall, cpu = row["steps_per_s"], row["steps_per_cpu_s"]
        if name in ("steps", "practice"):
            more = [f"{cpu / bare[row['num_envs']]:.2f}" if row["num_envs"] in bare else "–", _figure(wall / physics)]
        else:
            more = [_figure(1000 / wall)]
        at = f"{row['processes']} x {row['threads']}"
        table.append([row["what"], row["num_envs"], row["device"], at, _figure(wall), _figure(cpu), *more])
    return markdown_table(header, table)


DRAWN = {
    VECTOR: "dreams (vector env)",
    BARE: "world model alone",
    TORCHRL: "TorchRL WorldModelEnv",
    SYNC: "SyncVectorEnv",
}
"""Curves of the plot, with their labels."""


def draw_speeds(result: dict[str, Any], path: Path) -> None:
    """Plots steps per CPU second over the batch size, with the limits of matrix products and of physics, as a PNG."""
    figure, axes = subplots(1, 1, (6.8, 4.2))
    axis, rows = axes[0, 0], [row for row in result["steps"] if row["processes"] == 1]
    for (what, name), color in zip(DRAWN.items(), COLORS[1:], strict=False):
        points = [(row["num_envs"], row["steps_per_cpu_s"]) for row in rows if row["what"] == what]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", label=name, markersize=4, color=color)
    best = 1e9 * result["matmul_gflops"] / result["predictor_flops_per_step"]
    limits = {"limit: the machine's best matrix product": best}
    limits["physics with its picture"] = max(row["steps_per_cpu_s"] for row in rows if row["what"] == PHYSICS)
    for what, value in limits.items():
        axis.axhline(value, color="#555555", linewidth=0.8, linestyle="--")
        axis.annotate(what, (1, value), (0, 3), textcoords="offset points", fontsize=9, color="#555555")
    axis.set(xscale="log", yscale="log", xlabel="dreams side by side", ylabel="steps per second of CPU time")
    axis.legend(frameon=False, loc="center right")
    save_figure(figure, path)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

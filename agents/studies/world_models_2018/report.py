"""The study's files, made of the cells that are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.world_models_2018.arguments import RACERS
from dream_env.agents.studies.world_models_2018.races import lead

Cells = Mapping[str, Mapping[str, Any]]
PAPER = {
    0.1: "2086 ± 140 / 193 ± 58",
    0.5: "2060 ± 277 / 196 ± 50",
    1.0: "1145 ± 690 / 868 ± 511",
    1.15: "918 ± 546 / 1092 ± 556",
    1.3: "732 ± 269 / 753 ± 139",
}
"""Dream / game of Take Cover in Ha & Schmidhuber (2018), table 2 of worldmodels.github.io."""
CONTROLS = {
    "random": "random actions",
    "zero": "standing still",
    "unevolved": "controllers of the first generation",
}
"""What beside is played in the real game."""
PAPER_RACING = {"z": "632 ± 251", "z_h": "906 ± 21"}
"""CarRacing there, evolved in the game for 1,800 generations of 64 x 16 episodes; by the names of `RACERS`."""
PAPER_RANDOM = "210 ± 108"
_REAL = ("real_mean", "real_std", "real_low", "real_high", "episodes")
_ROW = ("temperature", "dream_mean", "dream_std", *_REAL, "budget")


def summary(
    cells: Cells, temperatures: Sequence[float], command: str, fits: Mapping[str, float | None] | None = None
) -> dict[str, Any]:
    """Returns what world_models_2018.json holds; None where a cell is missing.

    Args:
        cells: Those that are finished, by name.
        temperatures: Temperatures of the table.
        command: What makes it.
        fits: Minutes that the fits of world models took, by the game's name.
    """
    games = {t: cells.get(f"takecover_{t:g}") for t in temperatures}
    rows = [{name: row[name] for name in _ROW} for row in games.values() if row is not None]
    best = max(rows, key=lambda row: row["real_mean"], default=None)
    chance, speed = cells.get("takecover_random"), cells.get("rate")
    names = sorted(name.removeprefix("carracing_") for name in cells if name.startswith("carracing_"))
    races = {name: cells[f"carracing_{name}"] for name in sorted(names, key=lambda n: RACERS.index(n.split("@")[0]))}
    robots = [row for name, row in cells.items() if name.startswith("nicol_")]
    main = cells.get("nicol_none_1")
    return {
        "command": command,
        "takecover": rows or None,
        "takecover_random": chance and chance["real_mean"],
        "takecover_controls": {
            name: {k: cells[f"takecover_{name}"][k] for k in _REAL} for name in CONTROLS if f"takecover_{name}" in cells
        }
        or None,
        "takecover_best_real": best and best["real_mean"],
        "takecover_best_temperature": best and best["temperature"],
        "carracing": [
            {"name": name, "controller": row.get("controller", name), "evolved_in": row.get("evolved_in")}
            | {"mean": row["real_mean"], "std": row["real_std"], "low": row["real_low"], "high": row["real_high"]}
            | {"episodes": row["episodes"], "weights": row.get("weights"), "budget": row.get("budget")}
            | {"seed": row.get("seed", 0), "dream_mean": row.get("dream_mean") if name.endswith("_dream") else None}
            for name, row in races.items()
        ]
        or None,
        "carracing_memory_over_z": {
            where: lead(races[f"z_h{end}"], races[f"z{end}"])
            for where, end in [("game", ""), ("dream", "_dream"), *((f"game, seed {n}", f"@{n}") for n in range(1, 10))]
            if f"z_h{end}" in races and f"z{end}" in races
        }
        or None,
        "nicol": [{k: v for k, v in row.items() if k != "minutes"} for row in robots] or None,
        "nicol_reach_physics": main and main["physics_success"],
        "nicol_fresh": {k: v for k, v in cells["fresh"].items() if k != "minutes"} if "fresh" in cells else None,
        "generation_rate_over_vector_env": speed and speed["ratio"],
        "rate": speed,
        "minutes": {name: round(row["minutes"], 2) for name, row in cells.items()}
        | {f"{name}_fit": round(value, 2) for name, value in (fits or {}).items() if value is not None},
    }


def text(found: Mapping[str, Any]) -> str:
    """Writes world_models_2018.md."""
    parts = ["# World Models (2018), remade small\n\n`" + found["command"] + "` makes this.\n"]
    if found["takecover"]:
        rows = [
            [f"{row['temperature']:g}", _plus(row, "dream"), _plus(row, "real"), _range(row), row["episodes"]]
            + [row["budget"], PAPER.get(row["temperature"], "–")]
            for row in found["takecover"]
        ]
        header = ["temperature", "dream", "game", "95 %", "episodes", "budget", "the paper: dream / game"]
        parts.append(
            "## Take Cover\n\nTics survived, mean ± standard deviation, of controllers that were evolved in the dream "
            "only.\n\n" + markdown_table(header, rows) + "\n"
        )
        controls = [
            [CONTROLS[name], _plus(row, "real"), _range(row), row["episodes"]]
            + [PAPER_RANDOM if name == "random" else "–"]
            for name, row in (found["takecover_controls"] or {}).items()
        ]
        if controls:
            header = ["control", "game", "95 %", "episodes", "the paper"]
            parts.append("Solved at 750. The controls:\n\n" + markdown_table(header, controls) + "\n")
    if found["carracing"]:
        parts.append(_racing(found))
    if found["nicol"]:
        rows = [
            ["nothing" if row["init"] == "none" else "the clone's fit", f"{row['temperature']:g}", row["weights"]]
            + [f"{row['dream_success_before']:.0%}", f"{row['dream_success']:.0%}"]
            + [f"{row['physics_success']:.0%} ({row['low']:.0%} to {row['high']:.0%})", row["episodes"]]
            for row in sorted(found["nicol"], key=lambda row: (row["init"] != "none", row["temperature"]))
        ]
        header = ["begun with", "temperature", "weights", "dream before", "dream", "physics", "episodes"]
        parts.append(
            "## NICOL, reach\n\nSuccess at the end, linear controllers evolved in the dream only.\n\n"
            + markdown_table(header, rows)
            + "\n"
        )
        if fresh := found["nicol_fresh"]:
            parts.append(
                f"The controller from nothing of temperature 1 on fresh seeds: {fresh['physics_success']:.0%} "
                f"({fresh['low']:.0%} to {fresh['high']:.0%}) of {fresh['episodes']} episodes.\n"
            )
    if speed := found["rate"]:
        rates = [f"{speed[f'{name}_steps_per_second']:,.0f}" for name in ("generation", "vector_env")]
        parts.append(
            f"## Speed\n\nA generation of 64 x 16 dreams of NICOL makes {rates[0]} steps in a second of one core, the "
            f"vector env {rates[1]}: a ratio of {speed['ratio']:.2f}.\n"
        )
    minutes = found["minutes"]
    fitted = sum(value for name, value in minutes.items() if name.endswith("_fit"))
    parts.append(
        f"Minutes: {fitted:.0f} of fits of world models, by the clock; {sum(minutes.values()) - fitted:.0f} of "
        "evolution and evaluation, of the processor (of the main process alone, where several play).\n"
    )
    return "\n".join(parts)


def _racing(found: Mapping[str, Any]) -> str:
    """Writes the part on CarRacing."""
    rows = [
        [row["controller"], (row["evolved_in"] or "–") + (f", seed {row['seed']}" if row["seed"] else "")]
        + [row["weights"] or "–"]
        + ["–" if row["dream_mean"] is None else f"{row['dream_mean']:.0f}", f"{row['mean']:.0f} ± {row['std']:.0f}"]
        + [f"{row['low']:.0f} to {row['high']:.0f}", row["episodes"], row["budget"] or "–"]
        + [PAPER_RACING.get(row["name"], "–")]
        for row in found["carracing"]
    ]
    header = ["controller", "evolved in", "weights", "dream", "game", "95 %", "tracks", "budget", "the paper"]
    about = "Returns of whole episodes of the game, mean ± standard deviation, and of dreams, which are shorter."
    parts = [f"## CarRacing\n\n{about}\n\n" + markdown_table(header, rows)]
    leads = [
        f"evolved in the {where} {row['difference']:+.0f} ({row['low']:+.0f} to {row['high']:+.0f})"
        for where, row in (found["carracing_memory_over_z"] or {}).items()
    ]
    if leads:
        parts.append("What memory gives, z and h over z alone on the same tracks: " + "; ".join(leads) + ".")
    return "\n\n".join(parts) + "\n"


def _plus(row: Mapping[str, Any], world: str) -> str:
    return f"{row[f'{world}_mean']:.0f} ± {row[f'{world}_std']:.0f}"


def _range(row: Mapping[str, Any]) -> str:
    return f"{row['real_low']:.0f} to {row['real_high']:.0f}"

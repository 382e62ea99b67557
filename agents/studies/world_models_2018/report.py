"""The result files of the study, from the finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.world_models_2018.arguments import RACERS
from dream_env.agents.studies.world_models_2018.pooled import lead, pooled

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
"""Controls that are evaluated in the real game, with descriptions."""
PAPER_RACING = {"z": "632 ± 251", "z_h": "906 ± 21"}
"""CarRacing in the paper, evolved in the game for 1,800 generations of 64 x 16 episodes; by the names of `RACERS`."""
PAPER_RANDOM = "210 ± 108"
INTERVALS = "Intervals are bootstrapped over seeds, and over the episodes of each."
TICS = 4
"""Game tics per step of Take Cover."""
_REAL = ("real_mean", "real_std", "real_low", "real_high", "episodes")


def summary(
    cells: Cells, temperatures: Sequence[float], command: str, fits: Mapping[str, float | None] | None = None
) -> dict[str, Any]:
    """Returns the contents of world_models_2018.json; None if a cell is missing.

    Args:
        cells: Finished cells, by name.
        temperatures: Temperatures of the table.
        command: Command that reproduces the results.
        fits: Minutes of the fits of the world models, by game.
    """
    rows = _temperatures(cells, temperatures)
    most = max((len(row["seeds"]) for row in rows), default=0)  # with fewer seeds, a row may be best by chance
    best = max((row for row in rows if len(row["seeds"]) == most), key=lambda row: row["real_mean"], default=None)
    chance, speed = cells.get("takecover_random"), cells.get("rate")
    races = _racers(cells)
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
        "takecover_ends": {
            name.removeprefix("ends_"): {k: v for k, v in row.items() if k != "minutes"}
            for name, row in cells.items()
            if name.startswith("ends_")
        }
        or None,
        "carracing": [
            {"name": name, "controller": rows[0].get("controller", name), "evolved_in": rows[0].get("evolved_in")}
            | {key: rows[0].get(key) for key in ("weights", "budget")}
            | {key.removeprefix("real_"): value for key, value in pooled(rows).items()}
            | {"dream_mean": rows[0]["dream_mean"] if name.endswith("_dream") else None}
            for name, rows in races.items()
        ]
        or None,
        "carracing_memory_over_z": {
            where: lead(*both)
            for where, end in (("game", ""), ("dream", "_dream"))
            if (both := _same_seeds(races.get(f"z_h{end}", []), races.get(f"z{end}", []))) is not None
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


def _of_seeds(cells: Cells, name: str) -> list[Mapping[str, Any]]:
    """Returns the cells of a name, in the order of their seeds."""
    return sorted((row for key, row in cells.items() if key.split("@")[0] == name), key=lambda row: row.get("seed", 0))


def _temperatures(cells: Cells, temperatures: Sequence[float]) -> list[dict[str, Any]]:
    """Returns a row for each temperature."""
    rows = [(t, found) for t in temperatures if (found := _of_seeds(cells, f"takecover_{t:g}"))]
    kept = ("weights", "budget")
    return [{"temperature": t, **pooled(found), **{key: found[0][key] for key in kept}} for t, found in rows]


def _racers(cells: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the cells of CarRacing by the names of `RACERS`."""
    found = {name: _of_seeds(cells, f"carracing_{name}") for name in RACERS}
    return {name: rows for name, rows in found.items() if rows}


def _same_seeds(
    ours: list[Mapping[str, Any]], others: list[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] | None:
    """Returns the cells of two kinds with the same seeds; None if they share no seed."""
    known = [{row.get("seed", 0): row for row in rows} for rows in (ours, others)]
    shared = sorted(known[0].keys() & known[1].keys())
    return ([known[0][seed] for seed in shared], [known[1][seed] for seed in shared]) if shared else None


def text(found: Mapping[str, Any]) -> str:
    """Renders world_models_2018.md."""
    parts = ["# World Models (2018), remade small\n\n`" + found["command"] + "` makes this.\n"]
    if found["takecover"]:
        parts += _takecover(found)
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


def _takecover(found: Mapping[str, Any]) -> list[str]:
    """Renders the parts about Take Cover."""
    parts = [
        "## Take Cover\n\nTics survived, mean ± standard deviation, of controllers that were evolved in the dream "
        f"only; solved at 750. {INTERVALS}\n\n" + _by_temperature(found["takecover"]) + "\n"
    ]
    controls = [
        [CONTROLS[name], _plus(row, "real"), _range(row), row["episodes"]] + [PAPER_RANDOM if name == "random" else "–"]
        for name, row in (found["takecover_controls"] or {}).items()
    ]
    if controls:
        header = ["control", "game", "95 %", "episodes", "the paper"]
        parts.append("The controls:\n\n" + markdown_table(header, controls) + "\n")
    if found["takecover_ends"]:
        parts.append(_ends(found["takecover_ends"]))
    return parts


def _by_temperature(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["temperature", "dream", "game", "95 %", "each seed: dream / game", "episodes", "budget of a seed"]
    table = [
        [f"{row['temperature']:g}", _plus(row, "dream"), _plus(row, "real"), _range(row)]
        + ["; ".join(f"{one['dream_mean']:.0f} / {one['real_mean']:.0f}" for one in row["seeds"])]
        + [row["episodes"], row["budget"], PAPER.get(row["temperature"], "–")]
        for row in rows
    ]
    return markdown_table([*header, "the paper: dream / game"], table)


def _ends(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Renders the part about the prediction of ends."""
    rows = [
        ["actions at random" if who == "held" else f"evolved at {who}"]
        + [f"{TICS * row[key]:.0f}" for key in ("game", "dream", "dream_threshold")]
        + [row["came"], f"{row['expected']:.0f}", row["threshold"]]
        for who, row in found.items()
    ]
    header = ["who plays", "game", "dream", "with a threshold", "ends that came", "expected", "told"]
    return (
        f"Why dreams are kinder. Tics until the end of {next(iter(found.values()))['games']} games, and of dreams at "
        "temperature 1 in which an end is drawn by its probability, as it is here, or told from a probability of 0.5 "
        "on, as in the paper. Ends of the games: those that came, the sum of the probabilities that M gave to an end "
        "in all of their steps, and those that it told with a probability of 0.5.\n\n"
        + markdown_table(header, rows)
        + "\n"
    )


def _racing(found: Mapping[str, Any]) -> str:
    """Renders the part about CarRacing."""
    rows = [
        [row["controller"], row["evolved_in"] or "–", row["weights"] or "–"]
        + ["–" if row["dream_mean"] is None else f"{row['dream_mean']:.0f}", f"{row['mean']:.0f} ± {row['std']:.0f}"]
        + [f"{row['low']:.0f} to {row['high']:.0f}", "; ".join(f"{one['real_mean']:.0f}" for one in row["seeds"])]
        + [row["episodes"], row["budget"] or "–", PAPER_RACING.get(row["name"], "–")]
        for row in found["carracing"]
    ]
    header = ["controller", "evolved in", "weights", "dream", "game", "95 %", "each seed", "tracks"]
    about = "Returns of whole episodes of the game, mean ± standard deviation, and of dreams, which are shorter."
    table = markdown_table([*header, "budget of a seed", "the paper"], rows)
    parts = [f"## CarRacing\n\n{about} {INTERVALS}\n\n" + table]
    leads = [
        f"evolved in the {where} {row['difference']:+.0f} ({row['low']:+.0f} to {row['high']:+.0f}"
        + (f"; each seed {', '.join(f'{one:+.0f}' for one in row['seeds'])}" if len(row["seeds"]) > 1 else "; one seed")
        + ")"
        for where, row in (found["carracing_memory_over_z"] or {}).items()
    ]
    if leads:
        parts.append("What memory gives, z and h over z alone on the same tracks: " + ", ".join(leads) + ".")
    return "\n\n".join(parts) + "\n"


def _plus(row: Mapping[str, Any], world: str) -> str:
    return f"{row[f'{world}_mean']:.0f} ± {row[f'{world}_std']:.0f}"


def _range(row: Mapping[str, Any]) -> str:
    return f"{row['real_low']:.0f} to {row['real_high']:.0f}"

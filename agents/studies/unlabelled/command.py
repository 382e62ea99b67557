"""Measures NICOL's world model fitted without labels: `python -m agents.studies.unlabelled --data data`.

The world model is fitted by `agents.fit --model slots`, its clone by `agents.clone --policy transformer`, and practiced
by `agents.train`. Labels are used only here, for measuring. Figures that were not measured are null. Parts can be
measured separately.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.results import by_start, load_results
from dream_env.agents.eval.statistics import markdown_table, paired_difference, paired_values, spearman, wilson
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.bench.cases import dream
from dream_env.agents.studies.bench.clock import Case, clock
from dream_env.agents.studies.reward_audit.command import audit
from dream_env.agents.studies.reward_audit.scenes import play_scenes
from dream_env.agents.studies.unlabelled import labelled, lifts, probe
from dream_env.agents.studies.unlabelled.arguments import Arguments
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import nan_to_none, write_text
from dream_env.world_models import checkpoint

HEAD = (
    "moved_cm_24",
    "untouched_cm_24",
    "policy_spearman",
    "reward_spearman_push",
    "reward_spearman_lift",
    "gain_points",
    "gain_low_points",
    "panda_reach",
    "panda_push",
    "steps_per_s_256",
    "fit_minutes",
)
"""Figures at the top of the file."""
FEWEST_POLICIES = 4
"""Smallest number of policies for which their rank correlation is reported."""


def measure(args: Arguments) -> dict[str, Any]:
    """Measures the requested parts, and keeps earlier figures of the same world model.

    Raises:
        ValueError: If the episodes have no labels, or the world model was fitted to all of them.
    """
    folder = checkpoint.resolve(args.world_model)
    model, file = checkpoint.load(folder), args.out / "unlabelled.json"
    found: dict[str, Any] = dict.fromkeys(HEAD) | {"checkpoint_sha256": checkpoint.sha256(folder), "commands": {}}
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        found |= before if before.get("checkpoint_sha256") == found["checkpoint_sha256"] else {}
    metrics = folder / "metrics.json"
    if metrics.is_file():
        found["fit"] = json.loads(metrics.read_text(encoding="utf-8"))
        found["fit_minutes"] = found["fit"]["wall_minutes"]
    if "probe" in args.parts and args.data:
        played = {path.name: EpisodeDataset.load(path) for path in args.played}
        found |= probe_figures(model, EpisodeDataset.load(args.data), found.get("fit", {}), played)
        found |= {f"{name}_cm_24": found["cm"]["24"][name] for name in ("moved", "untouched")}
    if "audit" in args.parts:
        scenes = play_scenes(args.tasks, args.scenes, args.seed, args.cache, args.workers)
        figures, _ = audit(model, scenes)
        found["audit"] = nan_to_none({name: part["tasks"] for name, part in figures.items()})
        for task in ("push", "lift"):
            found[f"reward_spearman_{task}"] = found["audit"]["raw"][task]["spearman"]
    if "speed" in args.parts:
        found |= speed(str(folder))
    if "labelled" in args.parts and args.data:
        scenes = play_scenes(labelled.TASKS, args.scenes, args.seed, args.cache, args.workers)
        found["labelled"] = labelled.rows(folder, args, scenes)
    if "practice" in args.parts and args.evaluated:
        found |= practice_figures(args.evaluated)
    if "robot" in args.parts:
        found |= robot_figures(args.out / "your_robot.json")
    needed = {"probe": args.data, "labelled": args.data, "practice": args.evaluated}
    done = [part for part in args.parts if needed.get(part, True)]
    found["commands"] |= dict.fromkeys(done, command_line("studies.unlabelled", args))
    return found


def probe_figures(
    model: Any, data: EpisodeDataset, fit: Mapping[str, Any], played: Mapping[str, EpisodeDataset] | None = None
) -> dict[str, Any]:
    """Measures errors of slots in centimeters on held-out episodes, and lifts on these and on `played`."""
    for episodes in (data, *(played or {}).values()):
        if missing := {"objects", "colors", "hand"} - set(episodes.labels):
            raise ValueError(
                f"data has no labels {sorted(missing)}; accepted: NICOL's episodes, which a probe is fitted to"
            )
    held_out = np.flatnonzero(np.isin(data.seed, fit.get("held_out_seeds", [])))
    if not len(held_out):
        raise ValueError("data: the world model was fitted to all of its episodes; accepted: the data of its fit")
    fitted = probe.fitted(model, data, held_out)
    cm = probe.centimeters(fitted.probe, probe.watch(model, data, held_out, fitted.slot_of))
    every = {"held_out": (data, held_out)} | {n: (one, np.arange(len(one))) for n, one in (played or {}).items()}
    return {"cm": cm, "lifts": {name: lifts.figures(model, *one, fitted) for name, one in every.items()}}


def speed(world_model: str, seconds: float = 1.0, repeats: int = 5) -> dict[str, Any]:
    """Measures steps per CPU second of 256 dreams on one core, in turns with those of the state-grounded model."""
    names = {"steps_per_s_256": world_model, "steps_per_s_256_grounded": "state_grounded"}
    cases = [
        Case(name, dream, 256, {"world_model": path, "device": "cpu", "interface": "vector"}, compared="model")
        for name, path in names.items()
    ]
    return {row.what: round(row.steps_per_cpu_s) for row in clock(cases, seconds, repeats)}


def practice_figures(folders: tuple[Path, ...]) -> dict[str, Any]:
    """Returns the gain of practice in physics, and how well the dream ranks all policies.

    `practice_checkpoint_sha256` lists the digests of the world models of these evaluations. Folders NAME, NAME-1 and
    NAME-2 are training seeds of the same practice. `gains` are paired by start, over all seeds; `gain_points` is the
    gain of the first name.
    """
    rows: list[dict[str, Any]] = []
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    dreamt, real, played = [], [], list[str]()
    for folder in folders:
        results = [one for one in load_results(folder / "episodes.jsonl") if not one.solved_at_start]
        about = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        played.append(checkpoint.sha256(checkpoint.resolve(about["world_model"])))
        labels = list(dict.fromkeys(one.label for one in results))
        for label in labels:
            row: dict[str, Any] = {"policy": label, "evaluated": folder.name}
            for world in ("physics", "dream"):
                own = [one.success for one in results if (one.label, one.world) == (label, world)]
                row[world] = wilson(sum(own), len(own))._asdict() | {"episodes": len(own)}
            rows.append(row)
            if row["dream"]["episodes"] and row["physics"]["episodes"]:
                dreamt.append(row["dream"]["value"])
                real.append(row["physics"]["value"])
        first, (before, after) = by_start(results, labels[0]), pairs.setdefault(folder.name.split("-")[0], ([], []))
        for label in labels[1:]:
            own_before, own_after = paired_values(first, by_start(results, label))
            before += own_before
            after += own_after
    gains = {name: paired_difference(*both) for name, both in pairs.items()}
    gain = next(iter(gains.values()))
    return {
        "practice": nan_to_none(rows),
        "practice_checkpoint_sha256": sorted(set(played)),
        "gains": {  # in points
            name: {part: round(100 * value, 1) for part, value in one._asdict().items()} for name, one in gains.items()
        },
        "gain_points": round(100 * gain.value, 1),
        "gain_low_points": round(100 * gain.low, 1),
        "policy_spearman": round(spearman(dreamt, real), 3) if len(dreamt) >= FEWEST_POLICIES else None,
    }


def robot_figures(file: Path) -> dict[str, float]:
    """Returns the success rates on another robot, `panda_reach` and `panda_push`, from `agents.studies.your_robot`.

    Raises:
        FileNotFoundError: If that study has not been run.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; write it by python -m agents.studies.your_robot --out {file.parent}")
    return json.loads(file.read_text(encoding="utf-8"))["summary"]


def markdown(found: Mapping[str, Any]) -> str:
    """Renders the figures as Markdown."""
    rows = [[name, found[name]] for name in HEAD if found[name] is not None]
    lines = ["# A world model without labels", "", markdown_table(["figure", ""], rows), ""]
    if "cm" in found:
        names = list(found["cm"]["24"])
        rows = [[steps, *(row[name] for name in names)] for steps, row in found["cm"].items()]
        lines += ["Medians in cm, open loop under recorded actions:", "", markdown_table(["steps", *names], rows), ""]
    if "lifts" in found:
        names = list(found["lifts"]["held_out"])
        rows = [[name, *(row[n] for n in names)] for name, row in found["lifts"].items()]
        lines += ["Tries to lift, dreamt under recorded actions:", "", markdown_table(["episodes", *names], rows), ""]
    if "audit" in found:
        names = ["spearman", "wrong", "missed", "arm", "object", "hidden"]
        rows = [[p, task, *(row[n] for n in names)] for p, part in found["audit"].items() for task, row in part.items()]
        rows = [[f"{cell:.2f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
        lines += ["Audit of rewards:", "", markdown_table(["reward by", "task", *names], rows), ""]
    if "labelled" in found:
        names = list(found["labelled"][-1])
        rows = [[row[name] for name in names] for row in found["labelled"]]
        lines += ["Learned anew with labelled episodes, from the same data:", "", markdown_table(names, rows), ""]
    if "practice" in found:
        rows = [
            [row["policy"], *(f"{100 * row[w]['value']:.0f} % ({row[w]['episodes']})" for w in ("physics", "dream"))]
            for row in found["practice"]
            if row["physics"]["episodes"] and row["dream"]["episodes"]
        ]
        lines += ["Success on held-out starts:", "", markdown_table(["policy", "physics", "dream"], rows), ""]
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    found = measure(args)
    write_text(args.out / "unlabelled.json", json.dumps(found, indent=2) + "\n")
    write_text(args.out / "unlabelled.md", markdown(found))
    print(markdown(found))
    print(f"Report: {(args.out / 'unlabelled.json').resolve()}")

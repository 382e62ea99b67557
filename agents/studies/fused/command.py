"""Compares one network with two: `python -m agents.studies.fused --unified FOLDER --policy FOLDER --data data`.

The unified model is fitted by `agents.fit --model unified --teacher-policy FOLDER` and practiced by `agents.train`. The
report has the number of weights, the time of an action and an imagined step, the error of dreams against recordings,
and the success in physics on the same starts. Figures that were not measured are null; parts can be measured
separately.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.results import by_start, load_results
from dream_env.agents.eval.statistics import Interval, markdown_table, paired_gain, wilson
from dream_env.agents.fit.unified.command import parameters
from dream_env.agents.policies import registry
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.fused.arguments import Arguments
from dream_env.agents.studies.fused.speed import speed
from dream_env.agents.studies.unlabelled import probe
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json, write_text
from dream_env.world_models import checkpoint
from dream_env.world_models.unified.model import UnifiedModel

HEAD = (
    "fused_parameters_share",
    "fused_parameters_share_with_shared",
    "fused_time_share_1",
    "fused_time_share_256",
    "fused_dream_error_ratio_12",
    "fused_dream_error_ratio_24",
    "fused_points_behind",
    "fused_practised_points_behind",
)
"""Figures at the top of the file."""

SHORT = {"fused_time_share": "fused_time_share_256", "fused_dream_error_ratio": "fused_dream_error_ratio_24"}
"""Figures that the summary of `agents.studies.policies` reports under shorter names."""


class Probed:
    """Gives a unified model the interface of slot models that `dream_env.agents.studies.unlabelled.probe` expects."""

    def __init__(self, model: UnifiedModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the model, or of its base."""
        try:
            return getattr(self.model, name)
        except AttributeError:
            return getattr(self.model.base, name)


def measure(args: Arguments) -> dict[str, Any]:
    """Measures the requested parts, and keeps earlier figures of the same unified model.

    Raises:
        ValueError: If the folder holds no unified model, or there are no episodes to measure on.
    """
    model, world, policy = checkpoint.load(args.unified), checkpoint.load(args.world_model), registry.load(args.policy)
    if model.kind != UnifiedModel.kind:
        raise ValueError(f"unified={args.unified!r} is of kind {model.kind!r}; accepted: {UnifiedModel.kind!r}")
    file, key = args.out / "fused.json", checkpoint.sha256(checkpoint.resolve(args.unified))
    found: dict[str, Any] = dict.fromkeys(HEAD) | {"checkpoint_sha256": key, "commands": {}}
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        found |= before if before.get("checkpoint_sha256") == key else {}
    if "parameters" in args.parts:
        found |= weights(model, world, policy)
        if args.separate:
            one, two = (parameters(checkpoint.load(folder)) for folder in args.separate)
            parts = {"dynamics": one["trunk"] + one["dream"], "policy": two["trunk"] + two["actions"]}
            found["parameters"]["separate"] = parts | {"all": sum(parts.values())}
    if "speed" in args.parts:
        found["ms"] = speed(model, registry.load(args.unified), world, policy, args.seconds)
        found |= {f"fused_time_share_{count}": row["share_fused"] for count, row in found["ms"].items()}
    if "dream" in args.parts and args.data:
        found |= dream(args, model, world)
    if "success" in args.parts and args.evaluated:
        found |= success(args.evaluated, Path(args.unified).name, args.beside or Path(args.policy).name, args.practised)
    found |= {name: found[own] for name, own in SHORT.items()}
    found["commands"] |= dict.fromkeys(args.parts, command_line("studies.fused", args))
    return found


def weights(model: UnifiedModel, world: Any, policy: Any) -> dict[str, Any]:
    """Returns the number of weights, without and with the parts that both share (encoder, decoder, embedding)."""
    own = parameters(model)
    shared = own.pop("base")
    dynamics = sum(p.numel() for p in world.parameters()) - shared
    pair = {"dynamics": dynamics, "policy": sum(p.numel() for p in policy.parameters())}
    one, two = sum(own.values()), sum(pair.values())
    return {
        "parameters": {"fused": own | {"all": one}, "pair": pair | {"all": two}, "shared": shared},
        "fused_parameters_share": round(one / two, 4),
        "fused_parameters_share_with_shared": round((one + shared) / (two + shared), 4),
    }


def dream(args: Arguments, model: UnifiedModel, world: Any) -> dict[str, Any]:
    """Measures the errors of dreams on held-out episodes in centimeters, which needs NICOL's labels."""
    folder = checkpoint.resolve(args.unified)
    found = [one / "metrics.json" for one in (folder, checkpoint.resolve(args.world_model))]
    known = json.loads(next(one for one in found if one.is_file()).read_text(encoding="utf-8"))
    assert args.data is not None
    data = EpisodeDataset.load(args.data)
    rows = np.flatnonzero(np.isin(data.seed, known["held_out_seeds"]))
    if not len(rows) or not {"objects", "colors"} <= set(data.labels):
        raise ValueError(f"data={args.data}: accepted: NICOL's episodes with labels, some of them held out by the fit")
    worlds: dict[str, Any] = {"fused": Probed(model), "pair": world}
    if args.separate:
        worlds["separate"] = Probed(checkpoint.load(args.separate[0]))
    cm = {name: probe.figures(one, data, rows) for name, one in worlds.items()}
    own, its = cm["fused"], cm["pair"]
    return {"cm": cm, **{f"fused_dream_error_ratio_{k}": round(own[k]["moved"] / its[k]["moved"], 3) for k in own}}


def success(folders: tuple[Path, ...], label: str, beside: str, practised: str | None = None) -> dict[str, Any]:
    """Counts successes in physics and in the policies' dreams, and compares all in physics with policy `beside`.

    Args:
        folders: Output folders of `agents.evaluate`.
        label: Label of the fused policy, whose difference is a head figure of the report.
        beside: Label of the policy that it replaces.
        practised: Label of the fused policy after practice in its own dream; None if there is none.

    Raises:
        ValueError: If one of these policies was not evaluated.
    """
    results = [one for folder in folders for one in load_results(folder / "episodes.jsonl") if not one.solved_at_start]
    labels = list(dict.fromkeys(one.label for one in results))
    if missing := {label, beside, practised or label} - set(labels):
        raise ValueError(f"{sorted(missing)} were not evaluated; accepted: labels among {labels}")
    first, rows = by_start(results, beside), []
    for name in labels:
        own = by_start(results, name)
        row: dict[str, Any] = {"policy": name, "episodes": len(own), "physics": _rate([*own.values()])}
        row["tasks"] = {
            task: _rate([value for (other, _), value in own.items() if other == task])
            for task in dict.fromkeys(task for task, _ in own)
        }
        row["dream"] = _rate([float(r.success) for r in results if (r.label, r.world) == (name, "dream")])
        row["points"] = paired_gain(first, own)._asdict()
        rows.append(row)
    points = {row["policy"]: round(-100 * row["points"]["value"], 1) for row in rows}
    behind = {"fused_practised_points_behind": points[practised]} if practised else {}
    return {"success": rows, "fused_points_behind": points[label], **behind}


def _rate(values: list[float]) -> dict[str, Any] | None:
    return wilson(int(sum(values)), len(values))._asdict() | {"episodes": len(values)} if values else None


def markdown(found: Mapping[str, Any]) -> str:
    """Renders the figures as Markdown."""
    lines = ["# One network in the place of two", "", markdown_table(["figure", ""], [[k, found[k]] for k in HEAD]), ""]
    if "parameters" in found:
        rows = [
            [who, ", ".join(f"{name} {count:,}" for name, count in part.items() if name != "all"), f"{part['all']:,}"]
            for who, part in found["parameters"].items()
            if who != "shared"
        ]
        shared = f"{found['parameters']['shared']:,}"
        lines += [f"Weights, beside {shared} of encoder, decoder and embedding, which all of them need:", ""]
        lines += [markdown_table(["", "parts", "all"], rows), ""]
    if "ms" in found:
        names = list(next(iter(found["ms"].values())))
        rows = [[count, *(row[name] for name in names)] for count, row in found["ms"].items()]
        lines += [
            "Milliseconds of CPU for an action and an imagined step:",
            "",
            markdown_table(["dreams", *names], rows),
        ]
        lines += [""]
    if "cm" in found:
        names = list(found["cm"]["pair"]["24"])
        rows = [[who, k, *(row[n] for n in names)] for who, part in found["cm"].items() for k, row in part.items()]
        lines += [
            "Medians in cm, open loop under recorded actions:",
            "",
            markdown_table(["", "steps", *names], rows),
            "",
        ]
    if "success" in found:
        tasks = list(found["success"][0]["tasks"])
        rows = [
            [row["policy"], *(_percent(row["tasks"].get(task)) for task in tasks), _percent(row["physics"]),
             Interval(**row["points"]).points(), _percent(row["dream"])] for row in found["success"]
        ]  # fmt: skip
        header = ["policy", *tasks, "all", "points over the pair's policy", "in its dream"]
        lines += ["Success in physics on held-out starts:", "", markdown_table(header, rows), ""]
    return "\n".join(lines)


def _percent(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "–"
    return f"{Interval(rate['value'], rate['low'], rate['high']).percent()} of {rate['episodes']}"


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    found = measure(args)
    write_json(args.out / "fused.json", found)
    write_text(args.out / "fused.md", markdown(found))
    print(markdown(found))
    print(f"Report: {(args.out / 'fused.json').resolve()}")

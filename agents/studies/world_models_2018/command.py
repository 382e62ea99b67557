"""Small reproduction of the tables of World Models (Ha & Schmidhuber 2018): dream and game, by temperature.

    python -m agents.studies.world_models_2018 --takecover runs/takecover --carracing runs/carracing

For Take Cover and NICOL's reach, controllers are evolved in the dream only, at each temperature, and evaluated in 100
real episodes on held-out seeds. Take Cover needs a world model (docs/world_models_2018.md) and uses several seeds;
NICOL uses the shipped world model, and controllers start from nothing or from a fit to the clone. Controllers of
CarRacing are evolved in the game, with and without memory, from several seeds, and in the dream. Finished cells are
kept in `--work`; running the same command again resumes an interrupted study. Cells that cannot be computed are null.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.run.worlds import spec_of
from dream_env.agents.studies.world_models_2018 import cells, ends, races, report
from dream_env.agents.studies.world_models_2018.arguments import Arguments
from dream_env.agents.studies.world_models_2018.film import film
from dream_env.files import write_json, write_text
from dream_env.world_models import checkpoint
from dream_env.world_models.vmc import VMCModel

DRIVER = "z_h"
"""Controller of CarRacing that is filmed."""
WATCHED = 1.15
"""Temperature of Take Cover at which predicted ends are examined, see `ends`; the best one in the paper."""


def work(args: Arguments) -> None:
    """Computes the missing cells, the most important first."""
    for name in ("takecover", "carracing"):
        if name in args.only and getattr(args, name):
            spec_of(str(getattr(args, name)))  # fails early if it is missing
    if "rate" in args.only:
        cells.cell(args.work, "rate", lambda: cells.rate(args.work))
    warm = sorted(args.temperatures, key=lambda t: abs(t - 1.0))
    for init in ("none", "state_grounded") if "nicol" in args.only else ():
        for t in warm:
            cells.cell(args.work, f"nicol_{init}_{t:g}", lambda init=init, t=t: cells.nicol(args, init, t))  # type: ignore[misc]
    if "nicol" in args.only and (args.work / "nicol_none_1").exists():
        cells.cell(args.work, "fresh", lambda: cells.physics(str(args.work / "nicol_none_1"), args, args.fresh_seed))
    if args.takecover and "takecover" in args.only:
        takecover(args, args.takecover)
    if args.carracing and "carracing" in args.only:
        races.table(args, args.carracing)


def takecover(args: Arguments, model: Path) -> None:
    """Computes the missing cells of Take Cover."""
    for name in ("random", "zero"):
        cells.cell(args.work, f"takecover_{name}", lambda name=name: cells.real(name, model, args))  # type: ignore[misc]
    cells.cell(args.work, "takecover_unevolved", lambda: cells.unevolved(args, model))
    for seed in args.seeds:
        for t in sorted(args.temperatures, key=lambda t: abs(t - 1.15)):
            name = cells.named(f"takecover_{t:g}", seed)
            cells.cell(args.work, name, partial(cells.game, args, name, model, t, seed))
    if isinstance(checkpoint.load(str(model)), VMCModel):
        players = {"held": "held"}
        if WATCHED in args.temperatures:
            players[f"{WATCHED:g}"] = str(args.work / f"takecover_{WATCHED:g}")
        for name, policy in players.items():
            cells.cell(args.work, f"ends_{name}", partial(ends.looked_at, policy, model, args.seed))


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    torch.set_num_threads(1)
    work(args)
    fits = {name: cells.fit_minutes(getattr(args, name)) for name in ("takecover", "carracing")}
    command = command_line("studies.world_models_2018", args)
    found = report.summary(cells.finished(args.work), args.temperatures, command, fits)
    write_json(args.out / "world_models_2018.json", found)
    write_text(args.out / "world_models_2018.md", page := report.text(found))
    best = found["takecover_best_temperature"]
    if best is not None and args.takecover and spec_of(str(args.takecover)).pictures:
        controller = str(args.work / f"takecover_{best:g}")
        film(controller, args.takecover, best, args.out / "world_models_2018.gif", args.seed)
    drives = f"carracing_{DRIVER}" in cells.finished(args.work)
    if args.carracing and drives and spec_of(str(args.carracing)).pictures:
        driver = str(args.work / f"carracing_{DRIVER}" / "mean")
        film(driver, args.carracing, 1.0, args.out / "world_models_2018_racing.gif", args.seed)
    print(page)

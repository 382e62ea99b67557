"""How the transfer experiment makes its policies; each is made once, and kept with what it took."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from dream_env.agents import clone, coevolve, train
from dream_env.agents.data.encoded_dataset import encode_episodes
from dream_env.agents.policies import regressor
from dream_env.agents.studies.transfer.meter import Meter
from dream_env.agents.studies.transfer.physics import ppo_physics, sac_her_physics
from dream_env.agents.studies.transfer.plan import Spec
from dream_env.agents.studies.transfer.policies import Made, Setup, after, folder, need, needs, read, settings
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json, write_text
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.world_models import checkpoint


def make(spec: Spec, setup: Setup) -> dict[str, Made]:
    """Makes a policy and what it is made from, where that is not done yet; another process that is at it is waited for.

    Returns:
        The policy by budget, see `dream_env.agents.studies.transfer.plan.budgets`.
    """
    for each in needs(spec, setup):
        make(each, setup)
    out = folder(spec, setup)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        made = read(spec, setup)
        if made is None or not all(Path(one.path).exists() for one in made.values()):  # an archive has no weights
            write_text(out / "settings.json", json.dumps(settings(spec, setup), indent=1, default=str) + "\n")
            with Meter(out / "time.json") as meter:
                made = MAKERS[spec.method](spec, setup, out, meter)
            write_json(out / "made.json", {k: asdict(v) for k, v in made.items()})
    return made


@lru_cache(maxsize=1)
def _episodes(data: Path) -> EpisodeDataset:
    return EpisodeDataset.load(data)


def _fresh(meter: Meter, path: Path) -> Made:
    """Returns a policy that was made from demonstrations alone."""
    return Made(str(path), None, 0, 0.0, 0.0, meter.cpu_s, meter.wall_s)


def _cloning(spec: Spec, setup: Setup, out: Path) -> clone.Arguments:
    return clone.Arguments(
        setup.data[0],
        out / "policy",
        per_task=spec.demos,
        world_model=setup.world_model,
        updates=setup.clone_updates,
        seed=spec.seed,
    )


def _clone(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    grounded, looks = spec.method != "clone_ungrounded", spec.method == "clone_looking"
    args = replace(_cloning(spec, setup, out), grounded=grounded, looks=looks)
    clone.run(args, _episodes(setup.data[0]), checkpoint.load(setup.world_model))
    return {"": _fresh(meter, args.out)}


def _clone_equal_compute(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Clones anew, with as many more updates as fit into the CPU time of the dream RL."""
    base, practice = need(spec, setup, "clone"), need(spec, setup, "dream").practice_cpu_s
    more = round(setup.clone_updates * practice / base.cpu_s)
    args = replace(_cloning(spec, setup, out), updates=setup.clone_updates + more)
    clone.run(args, _episodes(setup.data[0]), checkpoint.load(setup.world_model))
    made = _fresh(meter, args.out)
    cpu, wall = max(0.0, made.cpu_s - base.cpu_s), max(0.0, made.wall_s - base.wall_s)
    return {"": replace(made, practice_cpu_s=cpu, practice_wall_s=wall)}


def _regressor(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    model = checkpoint.load(setup.world_model)
    demos = clone.demonstrations(_cloning(spec, setup, out), _episodes(setup.data[0]))
    config = regressor.RegressorConfig(model.embedding_dim, world_model=setup.world_model)
    labels = torch.tensor(demos.label)
    fitted = regressor.regress(encode_episodes(model, demos), labels, config, setup.clone_updates, seed=spec.seed)
    checkpoint.save(fitted, out / "policy", f"# Regressor\n\n{spec.demos} demonstrations per task, seed {spec.seed}.\n")
    return {"": _fresh(meter, out / "policy")}


def _practice(spec: Spec, setup: Setup, out: Path, world_model: str, init: str) -> int:
    """Trains by RL in a dream, into `out`/policy, and returns the physics steps of its validations."""
    args = train.Arguments(
        **{"validation_episodes": 0, **setup.recipe},
        out=out / "policy",
        init=init,
        world_model=world_model,
        seed=spec.seed,
    )
    physics = train.make_physics(args.task, args.world_model) if args.validation_episodes else None
    train.train(args, train.make_env(args), physics, progress=False)
    history = json.loads((args.out / "validation.json").read_text())
    return EPISODE_STEPS * args.validation_episodes * sum("success" in entry for entry in history)


def _dream(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    base = need(spec, setup, "clone")
    steps = _practice(spec, setup, out, setup.world_model, base.path)
    return {"": after(base, meter, out / "policy", steps)}


def _untrained_dream(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Practices in a dream that sees as the true one does, and moves at random; it is evaluated in the true one."""
    base, world = need(spec, setup, "clone"), out / "world_model"
    model = copy.deepcopy(checkpoint.load(setup.world_model))
    torch.manual_seed(spec.seed)
    model.predictor.load_state_dict(type(model)(model.config).predictor.state_dict())
    checkpoint.save(model, world, "# Untrained world model\n\nA control: its predictor has random weights.\n")
    shutil.copy(checkpoint.resolve(setup.world_model) / "bank.npz", world / "bank.npz")
    steps = _practice(spec, setup, out, str(world), base.path)
    return {"": after(base, meter, out / "policy", steps)}


def _dream_coevolved(spec: Spec, setup: Setup, out: Path, meter: Meter) -> dict[str, Made]:
    """Records the practiced policy in physics, refits the world model to that too, and practices on."""
    base = need(spec, setup, "dream")
    count = setup.coevolution_episodes
    args = coevolve.Arguments(
        Path(base.path),
        setup.data,
        out,
        setup.world_model,
        count,
        updates=setup.refit_updates,
        threads=1,
        workers=1,
        seed=spec.seed,
    )
    world = coevolve.record_and_refit(args)
    steps = count * EPISODE_STEPS + _practice(spec, setup, out, str(world), base.path)
    return {"": after(base, meter, out / "policy", steps, str(world))}


MAKERS: dict[str, Callable[[Spec, Setup, Path, Meter], dict[str, Made]]] = {
    "clone": _clone,
    "dream": _dream,
    "dream_coevolved": _dream_coevolved,
    "clone_equal_compute": _clone_equal_compute,
    "clone_ungrounded": _clone,
    "clone_looking": _clone,
    "untrained_dream": _untrained_dream,
    "regressor": _regressor,
    "ppo_physics": ppo_physics,
    "sac_her_physics": sac_her_physics,
}
"""How each of `METHODS` is made."""

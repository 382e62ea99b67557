"""Policies of the transfer study on disk: their dependencies, folders, and costs of training."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dream_env.agents.studies.transfer.arguments import Setup
from dream_env.agents.studies.transfer.plan import MODEL_FREE, Spec
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.files import replacing, write_json, write_text
from dream_env.world_models import checkpoint

ENCODER = ("autoencoder.", "state_estimator.", "success_head.readout.", "success_head.target_selector.")
"""Prefixes of the world model's weights that encode observations for policies or initialize policies, see
`dream_env.agents.clone.ground`."""
CLONES = ("clone", "clone_ungrounded", "clone_looking")
"""Methods that only imitate, and depend on no other policy."""
DREAMERS = ("dream", "dream_coevolved", "untrained_dream", "clone_equal_compute")
"""Methods that depend on the whole world model, through the content of dreams or the time that they take."""
KEPT = ("settings.json", "made.json", "trials/*.jsonl")
"""Files of a policy's folder that the report needs. Weights are trained again if they are needed."""


@dataclass(frozen=True)
class TrainedPolicy:
    """A trained policy and its costs.

    Attributes:
        path: Folder or file of the policy.
        world_model: Checkpoint of its own world model in whose dream it is evaluated; None for that of the setup.
        practice_steps: Physics steps after the demonstrations: recorded, practiced or validated.
        practice_cpu_s: CPU time (s) after the clone, or of the whole training if there is no clone.
        practice_wall_s: The same in wall time (s).
        cpu_s: CPU time (s) of everything, including the clone.
        wall_s: Wall time (s) of everything.
    """

    path: str = ""
    world_model: str | None = None
    practice_steps: int = 0
    practice_cpu_s: float = 0.0
    practice_wall_s: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0


def practice_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of practice, with the defaults of `agents.train`, without those that differ per policy."""
    own = ("out", "init", "world_model", "initial_states", "seed")
    return {key: value for key, value in asdict(Practice(Path(), **recipe)).items() if key not in own}


def settings(spec: Spec, setup: Setup) -> dict[str, Any]:
    """Returns everything that a policy depends on, as values for JSON; any change gives another policy.

    The digest of the world model stands for the episodes that it was fitted to, whatever their folder. Demonstrations
    are always the first ones.
    """
    method, model_free = spec.method, spec.method in MODEL_FREE
    # The names of the keys are part of the folders' names, and so of the archive.
    parts: dict[str, Any] = {**asdict(spec), "eyes": digest(setup.world_model, ENCODER)}
    if method in DREAMERS:
        parts["dream"] = digest(setup.world_model)
    if method != "sac_her_physics":
        parts["clone_updates"] = setup.clone_updates
    if method not in (*CLONES, "regressor") and (not model_free or setup.equal_time):
        parts["recipe"] = practice_settings(setup.recipe)
    if method == "dream_coevolved":
        parts["coevolution"] = [setup.coevolution_episodes, setup.refit_updates]
    if model_free:
        parts["physics"] = [setup.physics_steps, setup.equal_time, setup.physics_envs]
    if method == "ppo_physics":
        parts["practice"] = practice_settings(setup.physics_recipe)
    return parts


@lru_cache
def digest(world_model: str, parts: tuple[str, ...] = ()) -> str:
    """Returns a digest of the weights whose names begin with one of `parts`; without any, of the whole world model.

    Raises:
        ValueError: If no name begins with one of the parts.
    """
    weights = checkpoint.load(world_model).state_dict()
    for part in parts:
        if not any(name.startswith(part) for name in weights):
            raise ValueError(f"parts: {part!r} begins no weight of world_model={world_model!r}; accepted: ones that do")
    found = hashlib.sha256()
    if not parts:
        found.update((checkpoint.resolve(world_model) / checkpoint.CONFIG).read_bytes())  # thresholds
    chosen = {name: value for name, value in weights.items() if not parts or name.startswith(parts)}
    for name, value in sorted(chosen.items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def folder(spec: Spec, setup: Setup) -> Path:
    """Returns the folder of a policy, named by method, demonstrations, seed, and a digest of its settings.

    If `setup.archived` has no folder with this digest, its folder with another digest is returned.

    Raises:
        ValueError: If there are several of those.
    """
    digest = hashlib.sha256(json.dumps(settings(spec, setup), sort_keys=True, default=str).encode()).hexdigest()[:8]
    name = f"{spec.method}-{spec.demos}-{spec.seed}"
    known = [one for one in setup.archived if one.rpartition("-")[0] == name]
    if not known or f"{name}-{digest}" in known:
        return setup.runs / f"{name}-{digest}"
    if len(known) > 1:
        raise ValueError(f"archive: {', '.join(known)} are of other world models; accepted: one, or {name}-{digest}")
    return setup.runs / known[0]


def trained(spec: Spec, setup: Setup) -> dict[str, TrainedPolicy] | None:
    """Returns a trained policy by the budgets at which it is evaluated; None if it is not trained yet."""
    file = folder(spec, setup) / "made.json"
    if not file.is_file():
        return None
    return {budget: TrainedPolicy(**values) for budget, values in json.loads(file.read_text()).items()}


def needs(spec: Spec, setup: Setup) -> list[Spec]:
    """Returns the policies that must be trained before this one, as its start or for its time budget."""
    methods = {
        **dict.fromkeys((*CLONES, "regressor"), ()),
        "dream": ("clone",),
        "untrained_dream": ("clone",),
        "ppo_physics": ("clone", "dream") if setup.equal_time else ("clone",),
        "sac_her_physics": ("dream",) if setup.equal_time else (),
    }.get(spec.method, ("clone", "dream"))
    return [Spec(method, spec.demos, spec.seed) for method in methods]


def need(spec: Spec, setup: Setup, method: str) -> TrainedPolicy:
    """Returns a policy that this one depends on, which has already been trained."""
    found = trained(Spec(method, spec.demos, spec.seed), setup)
    assert found is not None, "`methods.make` makes what is needed first"
    return found[""]


class Stopwatch:
    """Adds up the CPU and wall time of a piece of work over all attempts, and saves it every few seconds.

    Args:
        file: JSON file of the times; the times of earlier attempts are read from it.
        every: Seconds between saves; a killed process loses at most that much.
    """

    def __init__(self, file: Path, every: float = 5.0) -> None:
        self.file, self.every, self._stop = file, every, threading.Event()
        before = json.loads(file.read_text()) if file.is_file() else {"cpu_s": 0.0, "wall_s": 0.0}
        self._start = time.process_time() - before["cpu_s"], time.monotonic() - before["wall_s"]

    def __enter__(self) -> Stopwatch:
        """Starts saving."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops and saves the times, also after an exception."""
        self._stop.set()
        self._thread.join()
        self._save()

    def restart(self) -> None:
        """Resets the times to 0, because the work starts over."""
        self._start = time.process_time(), time.monotonic()

    @property
    def cpu_s(self) -> float:
        """CPU time of the work in this process (s), without child processes."""
        return time.process_time() - self._start[0]

    @property
    def wall_s(self) -> float:
        """Wall time of the work (s)."""
        return time.monotonic() - self._start[1]

    def after(self, base: TrainedPolicy, path: Path, steps: int = 0, world_model: str | None = None) -> TrainedPolicy:
        """Returns the policy after practice: the costs of `base` plus the measured time and the physics steps."""
        return TrainedPolicy(
            path=str(path),
            world_model=world_model,
            practice_steps=base.practice_steps + steps,
            practice_cpu_s=base.practice_cpu_s + self.cpu_s,
            practice_wall_s=base.practice_wall_s + self.wall_s,
            cpu_s=base.cpu_s + self.cpu_s,
            wall_s=base.wall_s + self.wall_s,
        )

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            self._save()

    def _save(self) -> None:
        write_json(self.file, {"cpu_s": self.cpu_s, "wall_s": self.wall_s})


def pack(folders: Iterable[Path], file: Path) -> None:
    """Writes the settings, costs and episodes of the policies in some folders to an archive (tar.xz)."""
    kept = sorted((path, one.parent) for one in folders for pattern in KEPT for path in one.glob(pattern))
    with replacing(file) as part, tarfile.open(part, "w:xz") as archive:
        for path, root in kept:  # without owners and times: the same results make the same file
            entry, data = tarfile.TarInfo(path.relative_to(root).as_posix()), path.read_bytes()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def unpack(file: Path, runs: Path) -> tuple[str, ...]:
    """Restores the files of an archive written by `pack` into `runs`; existing files are kept.

    Returns:
        The names of its folders.

    Raises:
        ValueError: If the file is damaged or not such an archive.
    """
    folders = set()
    try:
        with tarfile.open(file, "r:xz") as archive:
            for entry in archive:
                path, data = Path(entry.name), archive.extractfile(entry)
                astray = path.is_absolute() or ".." in path.parts
                if data is None or astray or not any(path.match(f"*/{pattern}") for pattern in KEPT):
                    raise tarfile.TarError(f"it holds {entry.name!r}")
                if not (runs / path).exists():
                    write_text(runs / path, data.read().decode())
                folders.add(path.parts[0])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"archive={file} is damaged, or not one of `agents.studies.transfer`: {error}") from error
    return tuple(sorted(folders))

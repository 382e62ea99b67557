"""Physics for the reward audit: ways to do a task, ways to only look as if, and the steps to go in each.

Every scene is a start on a held-out seed. In it the scripted expert and others act (`BEHAVIORS`), and hand and cube are
put where they would deceive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.nicol import behaviors
from dream_env.agents.run import hashing as sources
from dream_env.agents.run import workers as pool
from dream_env.files import replacing
from dream_env.nicol.camera import CAMERAS
from dream_env.nicol.constants import EPISODE_STEPS, SETPOINT_HIGH, SETPOINT_LOW, normalize
from dream_env.nicol.layout import Layout
from dream_env.nicol.tasks import TASKS, SimState
from dream_env.nicol.tasks.task import CUBE_SIZE, TABLE_Z
from dream_env.progress import progress_bar

ORDERED = ("expert", "misjudge", "play")
"""Behaviors whose states are put in order: all that happens on the way to a goal, and elsewhere."""
STILLS = {
    "arm": "the hand where it is in the end, the cube where it was",
    "object": "the cube where it is in the end, the hand where it was",
    "hidden": "the hand between camera and cube",
    "open": "the hand anywhere else",
}
"""Moments that are posed; `arm` and `object` where the task allows."""
RIGHT = ("expert", "misjudge", "demo")
"""Behaviors that end right in most scenes, each in its own way."""
_GRASP_OFF = (0.045, 0.065)
"""How far beside or above the cube a grasp misses it (m)."""
_PUSH_OFF = (0.075, 0.095)
"""How far beside the cube a push misses it (m)."""
_LOW = 0.92
"""Lowest grasp point that touches no cube (m)."""
_HIDDEN = 0.3
"""A cube is hidden where less than this share of the pixels shows that it has elsewhere."""
_AWAY = (3.0, 3.0)
"""Where a cube is out of the picture (m)."""
_MOVES = 0.02
"""A task that brings the named cube farther than this is about the cube, others about the hand (m)."""


@dataclass(frozen=True)
class Take:
    """What happened under a behavior.

    Attributes:
        images: Pictures, `(F, 64, 64, 3)` uint8.
        proprio: Set-points, `(F, 4)`.
        steps: Steps to go by the count of the scripted expert, `(F,)` float32.
        off: Distance of the named cube to where it is in the goal picture (cm), `(F,)` float32; where the task leaves
            it in its place, that of the hand.
    """

    images: np.ndarray
    proprio: np.ndarray
    steps: np.ndarray
    off: np.ndarray

    @property
    def solved(self) -> bool:
        """Whether the task is done in the last frame."""
        return bool(self.steps[-1] == 0)


@dataclass(frozen=True)
class Scene:
    """One start and all that was done from it.

    Attributes:
        task: Name of the task.
        seed: Seed of the start.
        instruction: The sentence.
        goal_image: Picture of the goal, `(64, 64, 3)` uint8.
        takes: What was done and posed: an episode for each of `BEHAVIORS`, and single moments under `STILLS` where
            there are any.
    """

    task: str
    seed: int
    instruction: str
    goal_image: np.ndarray
    takes: dict[str, Take]


def wrong_object(env: Any, rng: np.random.Generator, obs: behaviors.Observation) -> behaviors.Behavior:
    """Does the task with another cube than the one that was named."""
    other = int(rng.choice([i for i in range(len(env.layout.colors)) if i != env.target]))
    while True:
        yield TASKS[env.task_name].expert(replace(env.sim_state(), target=other, held=env.scene.held(other)))


def missed(env: Any, rng: np.random.Generator, obs: behaviors.Observation) -> behaviors.Behavior:
    """Does everything but take the cube along: closes beside or above it and goes up, or pushes past its side."""
    task, begun, shift = env.task_name, env.sim_state().objects, np.zeros(3)
    if task == "push":
        shift[1] = rng.uniform(*_PUSH_OFF) * rng.choice([-1, 1])
    else:
        shift[rng.integers(3)] = rng.uniform(*_GRASP_OFF)
        shift[:2] *= rng.choice([-1, 1])
    while True:
        seen = replace(env.sim_state(), objects=begun + shift)
        if task == "push":  # the cube seems to be before the hand all the way
            seen.objects[env.target, 0] = max(seen.cube[0], seen.setpoint[0] + 0.085)
        yield TASKS[task].expert(replace(seen, held=bool(seen.setpoint[3] > 0.99)))


BEHAVIORS: dict[str, Callable[..., behaviors.Behavior]] = {
    **{name: behaviors.BEHAVIORS[name] for name in ("expert", "misjudge", "demo", "play")},
    "wrong": wrong_object,
    "missed": missed,
}


@lru_cache
def make_env() -> Any:
    """Makes the process's physics env."""
    from dream_env.nicol.env import NicoLRealEnv

    return NicoLRealEnv("all")


def play_scene(cell: tuple[str, int]) -> Scene:
    """Plays everything in one scene.

    Args:
        cell: Name of the task, and the seed.
    """
    task, seed = cell
    env, takes, last = make_env(), {}, None
    goal = goal_pose(env, task, seed)
    for number, (name, behavior) in enumerate(BEHAVIORS.items()):
        obs, _ = env.reset(seed=seed, options={"task": task})
        start = env.sim_state()
        act = behavior(env, np.random.default_rng([seed, number]), obs)
        frames = [_frame(env, goal)]
        for step in range(EPISODE_STEPS):
            action = act.send(obs) if step else next(act)
            obs, *_ = env.step(np.clip(action, -1, 1).astype(np.float32))
            frames.append(_frame(env, goal))
        takes[name] = _take(frames)
        if name in RIGHT and takes[name].solved:
            last = env.sim_state()
    goal_image = env.goal_image
    takes |= _stills(env, start, last, goal, np.random.default_rng([seed, len(BEHAVIORS)]))
    return Scene(task, seed, env.instruction, goal_image, takes)


@dataclass(frozen=True)
class GoalPose:
    """Where the goal picture shows what its task moves.

    Attributes:
        place: `(3,)` in m: of the named cube; of the hand, where the task leaves the cube in its place.
        of_cube: Whether it is the cube's.
    """

    place: np.ndarray
    of_cube: bool

    def off(self, now: SimState) -> float:
        """Returns how far from there it is (cm)."""
        return 100 * float(np.linalg.norm((now.cube if self.of_cube else now.hand) - self.place))


def goal_pose(env: Any, task: str, seed: int) -> GoalPose:
    """Lets the scripted expert act as it does for the goal picture, and returns where that ends."""
    env.reset(seed=seed, options={"task": task})
    begun = env.sim_state().cube
    for _ in range(EPISODE_STEPS):
        env.step(np.clip(env.expert_action(), -1, 1).astype(np.float32))
    now = env.sim_state()
    of_cube = bool(np.linalg.norm(now.cube - begun) > _MOVES)
    return GoalPose(now.cube if of_cube else now.hand, of_cube)


def _stills(
    env: Any, start: SimState, last: SimState | None, goal: GoalPose, rng: np.random.Generator
) -> Iterator[tuple[str, Take]]:
    """Puts the hand and the named cube where they deceive.

    Args:
        env: Physics, after an episode of the scene.
        start: SimState at the start of the scene.
        last: SimState at the end of an episode that did the task; None if none did.
        goal: What the truth is told by.
        rng: Source of chance.
    """
    target, layout = env.target, env.layout
    place = np.append(layout.positions[target], TABLE_Z + CUBE_SIZE / 2)
    if last is not None and env.task_name != "reach":
        yield "arm", _still(env, goal, layout, last.setpoint)
    if last is not None and env.task_name == "push":
        yield "object", _still(env, goal, layout, start.setpoint, last.cube[:2])
    camera, low = np.array(CAMERAS["workspace"].position), np.array([*SETPOINT_LOW[:2], _LOW])
    heights = rng.uniform(_LOW, SETPOINT_HIGH[2], 4)
    places = [place + (z - place[2]) / (camera[2] - place[2]) * (camera - place) for z in heights]
    places += [rng.uniform(low, SETPOINT_HIGH[:3]) for _ in range(8)]
    setpoints = [np.append(np.clip(one, low, SETPOINT_HIGH[:3]), 0.0) for one in places]
    takes = [_still(env, goal, layout, setpoint) for setpoint in setpoints]
    without = [_still(env, goal, layout, setpoint, _AWAY) for setpoint in setpoints]
    pixels = [
        int((np.abs(one.images.astype(int) - other.images).max(-1) > 24).sum())
        for one, other in zip(takes, without, strict=True)
    ]
    hidden = np.array(pixels) < _HIDDEN * max(pixels)
    for name, chosen in (("hidden", hidden), ("open", ~hidden)):
        if chosen.any():
            some = [take for take, yes in zip(takes, chosen, strict=True) if yes]
            yield name, Take(*(np.concatenate(part) for part in zip(*map(_parts, some), strict=True)))


def _still(env: Any, goal: GoalPose, layout: Layout, setpoint: np.ndarray, place: Any = None) -> Take:
    """Pictures the hand at a set-point over a layout, without a way there; the named cube stands at `place` `(2,)`."""
    env.scene.reset(layout, setpoint)
    if place is not None:
        env.scene.place_cube(env.target, place)
    env.proprio = normalize(np.asarray(setpoint, np.float32))
    return _take([_frame(env, goal)])


def _frame(env: Any, goal: GoalPose) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Returns picture, set-point, the expert's steps to go and the distance to the goal pose of this moment."""
    now = env.sim_state()
    steps = TASKS[env.task_name].steps_to_go(now)
    return env.scene.picture("workspace"), env.proprio.copy(), steps, goal.off(now)


def _take(frames: list[tuple[np.ndarray, np.ndarray, float, float]]) -> Take:
    images, proprio, steps, off = zip(*frames, strict=True)
    return Take(np.stack(images), np.stack(proprio), np.array(steps, np.float32), np.array(off, np.float32))


def _parts(take: Take) -> tuple[np.ndarray, ...]:
    return take.images, take.proprio, take.steps, take.off


def play_scenes(tasks: Sequence[str], count: int, seed: int, cache: Path, workers: pool.Workers = None) -> list[Scene]:
    """Plays scenes in physics, those that `cache` lacks, and returns them all.

    Args:
        tasks: Names of the tasks.
        count: Scenes of each task.
        seed: First seed.
        cache: Folder of the scenes.
        workers: Processes; all cores by default.
    """
    cache = cache / sources.physics()
    cells = [(task, seed + i) for i in range(count) for task in tasks]
    missing = [cell for cell in cells if not _file(cache, *cell).exists()]
    with closing(pool.imap(partial(_play_and_save, cache=cache), missing, workers)) as done:
        for _ in progress_bar(done, "scenes", len(cells), initial=len(cells) - len(missing), unit="scene"):
            pass
    return [load_scene(_file(cache, *cell)) for cell in cells]


def save_scene(scene: Scene, file: Path) -> None:
    """Writes a scene as npz without pickle; a reader never sees half a file."""
    arrays = {f"{name}.{key}": value for name, take in scene.takes.items() for key, value in vars(take).items()}
    about = np.array([scene.task, str(scene.seed), scene.instruction])
    with replacing(file) as part, part.open("wb") as out:
        np.savez_compressed(out, scene=about, goal_image=scene.goal_image, **arrays)


def load_scene(file: Path) -> Scene:
    """Reads a scene."""
    with np.load(file, allow_pickle=False) as arrays:
        task, seed, instruction = arrays["scene"].tolist()
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key in arrays.files:
            name, _, part = key.partition(".")
            if part:
                parts.setdefault(name, {})[part] = arrays[key]
        takes = {name: Take(**values) for name, values in parts.items()}
        return Scene(task, int(seed), instruction, arrays["goal_image"], takes)


def _file(cache: Path, task: str, seed: int) -> Path:
    return cache / f"{task}-{seed}-{len(fields(Take))}.npz"


def _play_and_save(cell: tuple[str, int], cache: Path) -> None:
    save_scene(play_scene(cell), _file(cache, *cell))

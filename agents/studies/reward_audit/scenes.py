"""Physics for the reward audit: ways to do a task, ways to only appear to do it, and the steps to go in each.

Every scene is a start of a held-out seed. From it, the scripted expert and other behaviors act (`BEHAVIORS`), and hand
and cube are placed in poses that could deceive a reward.
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
"""Behaviors whose states are used for rank correlations: on the way to the goal, and elsewhere."""
STILLS = {
    "arm": "the hand where it is in the end, the cube where it was",
    "object": "the cube where it is in the end, the hand where it was",
    "hidden": "the hand between camera and cube",
    "open": "the hand anywhere else",
}
"""Static poses; `arm` and `object` only for tasks that allow them."""
RIGHT = ("expert", "misjudge", "demo")
"""Behaviors that solve the task in most scenes, each in its own way."""
_GRASP_OFF = (0.045, 0.065)
"""Range of the offset next to or above the cube with which a grasp misses it (m)."""
_PUSH_OFF = (0.075, 0.095)
"""Range of the offset next to the cube with which a push misses it (m)."""
_LOW = 0.92
"""Lowest height of the grasp point at which no cube is touched (m)."""
_HIDDEN = 0.3
"""A cube counts as hidden if less than this fraction of its largest number of visible pixels is visible."""
_AWAY = (3.0, 3.0)
"""Position at which a cube is out of the picture (m)."""
_MOVES = 0.02
"""If the expert moves the named cube farther than this (m), poses are measured by the cube, otherwise by the hand."""


@dataclass(frozen=True)
class Take:
    """Recorded frames of one behavior or pose.

    Attributes:
        images: Pictures, `(F, 64, 64, 3)` uint8.
        proprio: Set-points, `(F, 4)`.
        steps: Steps to go, as counted by the scripted expert, `(F,)` float32.
        off: Distance of the named cube to its position in the goal picture (cm), `(F,)` float32; the distance of the
            hand if the task does not move the cube.
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
    """One start and everything that was recorded from it.

    Attributes:
        task: Name of the task.
        seed: Seed of the start.
        instruction: The instruction.
        goal_image: Goal picture, `(64, 64, 3)` uint8.
        takes: An episode for each of `BEHAVIORS`, and the static poses of `STILLS` that the scene has.
    """

    task: str
    seed: int
    instruction: str
    goal_image: np.ndarray
    takes: dict[str, Take]


def wrong_object(env: Any, rng: np.random.Generator, obs: behaviors.Observation) -> behaviors.Behavior:
    """Does the task with another cube than the named one."""
    other = int(rng.choice([i for i in range(len(env.layout.colors)) if i != env.target]))
    while True:
        yield TASKS[env.task_name].expert(replace(env.sim_state(), target=other, held=env.scene.held(other)))


def missed(env: Any, rng: np.random.Generator, obs: behaviors.Observation) -> behaviors.Behavior:
    """Does the task but misses the cube: closes next to or above it and rises, or pushes past its side."""
    task, begun, shift = env.task_name, env.sim_state().objects, np.zeros(3)
    if task == "push":
        shift[1] = rng.uniform(*_PUSH_OFF) * rng.choice([-1, 1])
    else:
        shift[rng.integers(3)] = rng.uniform(*_GRASP_OFF)
        shift[:2] *= rng.choice([-1, 1])
    while True:
        seen = replace(env.sim_state(), objects=begun + shift)
        if task == "push":  # the cube seems to stay in front of the hand
            seen.objects[env.target, 0] = max(seen.cube[0], seen.setpoint[0] + 0.085)
        yield TASKS[task].expert(replace(seen, held=bool(seen.setpoint[3] > 0.99)))


BEHAVIORS: dict[str, Callable[..., behaviors.Behavior]] = {
    **{name: behaviors.BEHAVIORS[name] for name in ("expert", "misjudge", "demo", "play")},
    "wrong": wrong_object,
    "missed": missed,
}


@lru_cache
def make_env() -> Any:
    """Creates the physics environment of this process."""
    from dream_env.nicol.env import NicoLRealEnv

    return NicoLRealEnv("all")


def play_scene(cell: tuple[str, int]) -> Scene:
    """Records all behaviors and poses of one scene.

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
    """Position in the goal picture of what the task moves.

    Attributes:
        place: Position `(3,)` in m of the named cube, or of the hand if the task does not move the cube.
        of_cube: Whether it is the position of the cube.
    """

    place: np.ndarray
    of_cube: bool

    def off(self, now: SimState) -> float:
        """Returns the distance of the cube or hand from this position (cm)."""
        return 100 * float(np.linalg.norm((now.cube if self.of_cube else now.hand) - self.place))


def goal_pose(env: Any, task: str, seed: int) -> GoalPose:
    """Runs the scripted expert as for the goal picture, and returns the final position."""
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
    """Records poses of the hand and the named cube that could deceive a reward.

    Args:
        env: Physics environment, after an episode of the scene.
        start: State at the start of the scene.
        last: State at the end of an episode that solved the task; None if there is none.
        goal: Goal position from which true distances are measured.
        rng: Random generator.
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
    """Records one frame with the hand at a set-point, and the named cube at `place` `(2,)` if given."""
    env.scene.reset(layout, setpoint)
    if place is not None:
        env.scene.place_cube(env.target, place)
    env.proprio = normalize(np.asarray(setpoint, np.float32))
    return _take([_frame(env, goal)])


def _frame(env: Any, goal: GoalPose) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Returns the picture, the set-point, the expert's steps to go and the distance to the goal pose."""
    now = env.sim_state()
    steps = TASKS[env.task_name].steps_to_go(now)
    return env.scene.picture("workspace"), env.proprio.copy(), steps, goal.off(now)


def _take(frames: list[tuple[np.ndarray, np.ndarray, float, float]]) -> Take:
    images, proprio, steps, off = zip(*frames, strict=True)
    return Take(np.stack(images), np.stack(proprio), np.array(steps, np.float32), np.array(off, np.float32))


def _parts(take: Take) -> tuple[np.ndarray, ...]:
    return take.images, take.proprio, take.steps, take.off


def play_scenes(tasks: Sequence[str], count: int, seed: int, cache: Path, workers: pool.Workers = None) -> list[Scene]:
    """Records the scenes that are missing in `cache`, and returns all of them.

    Args:
        tasks: Names of the tasks.
        count: Scenes of each task.
        seed: First seed.
        cache: Folder of the scenes.
        workers: Number of processes, or "ray"; all cores by default.
    """
    cache = cache / sources.physics()
    cells = [(task, seed + i) for i in range(count) for task in tasks]
    missing = [cell for cell in cells if not _file(cache, *cell).exists()]
    with closing(pool.imap(partial(_play_and_save, cache=cache), missing, workers)) as done:
        for _ in progress_bar(done, "scenes", len(cells), initial=len(cells) - len(missing), unit="scene"):
            pass
    return [load_scene(_file(cache, *cell)) for cell in cells]


def save_scene(scene: Scene, file: Path) -> None:
    """Writes a scene as npz without pickle; the file appears only when it is complete."""
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

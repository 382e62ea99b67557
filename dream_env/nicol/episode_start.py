"""Starts of physics episodes: drawn at random, set by the options of a reset, or restored from a saved state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dream_env.checks import check_choice, check_options, shown
from dream_env.language import embed
from dream_env.nicol import constants
from dream_env.nicol.language import colors_of
from dream_env.nicol.layout import APART, COLOR_NAMES, PALETTE_NAMES, PLACE_HIGH, PLACE_LOW, Layout
from dream_env.nicol.physics import Physics
from dream_env.nicol.shift import Shift
from dream_env.nicol.tasks import STANDARD, TASKS, task_of

OPTIONS = ("task", "instruction", "spoken", "layout", "goals", "goal_image", "state")
"""Keys that `NicoLRealEnv.reset(options=...)` accepts."""
START_LOW = np.array([0.34, -0.38, 0.95, 0.0])
START_HIGH = np.array([0.56, 0.02, 1.06, 0.0])
"""Bounds of the set-point at the start (m, m, m, closing)."""
START_APART = -0.14
"""Largest y of the right hand at the start in tasks for both arms (m), so that the hands do not collide."""
GOAL_LOW, GOAL_HIGH = np.array([0.42, -0.36]), np.array([0.60, 0.0])
"""Bounds of goal positions: x and y of a cube's center (m)."""
GOAL_SPACING = 0.11
"""Smallest distance of a goal position to the center of any other object, so that the open hand clears it (m)."""
GOAL_FAR = 0.08
"""Smallest distance of a goal position to the cube's own initial position (m)."""
TRIES = 1000
"""Number of positions drawn for the goals before a layout counts as too crowded."""


class Crowded(ValueError):
    """Raised when the objects on the table leave no room for a goal."""


@dataclass(frozen=True)
class EpisodeStart:
    """Everything that determines an episode before its first action.

    Attributes:
        task_name: Name of the task.
        instruction: The sentence that defines success.
        spoken: The sentence given to the policy.
        target: Index of the object that the instruction names first.
        other: Index of the second named cube, in tasks that name two; else None.
        layout: The objects on the table and their positions.
        start: The normalized set-point, `(4,)` float32, or `(8,)` for both arms; read-only.
        physics: Physical properties.
        goals: Positions at which the goal image shows the named cubes, `(1, 2)` or `(2, 2)` in m, read-only; None in
            tasks without goal positions.

    Raises:
        ValueError: If a value is not accepted.
    """

    task_name: str
    instruction: str
    spoken: str
    target: int
    other: int | None
    layout: Layout
    start: np.ndarray
    physics: Physics
    goals: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        check_choice("task_name", self.task_name, TASKS)
        for name in ("instruction", "spoken"):
            check_sentence(name, getattr(self, name))
        for name, kind in (("layout", Layout), ("physics", Physics)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"{name}={shown(getattr(self, name))}; accepted: a `{kind.__module__}.{kind.__name__}`"
                )
        task = TASKS[self.task_name]
        cubes = self.layout.of(task.shape)
        check_choice("target", self.target, cubes)
        others = [i for i in cubes if i != self.target] if task.grammar.cubes == 2 else [None]
        check_choice("other", self.other, others)
        if (self.goals is None) != (task.destinations == 0):
            raise ValueError(f"goals={shown(self.goals)}; accepted by {task.name!r}: {task.destinations} places")
        start = _array("start", self.start, (4 * task.arms,))
        goals = None if self.goals is None else check_goals(self.goals, task.destinations)
        for name, value in (("start", start), ("goals", goals)):
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class SavedState:
    """A validated state of `NicoLRealEnv.get_state`.

    Attributes:
        start: The start of the episode.
        deltas: The delta actions taken since, `(T, 4)` or `(T, 8)` float32 in [-1, 1].
        goal_image: The goal image, `(64, 64, 3)` uint8.
        rng: State of the environment's random generator.
    """

    start: EpisodeStart
    deltas: np.ndarray
    goal_image: np.ndarray
    rng: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as a flat dict with copies of the arrays."""
        fields = {name: getattr(self.start, name) for name in _START}
        fields["start"] = self.start.start.copy()
        if self.start.goals is not None:
            fields["goals"] = self.start.goals.copy()
        return fields | {"deltas": self.deltas.copy(), "goal_image": self.goal_image.copy(), "rng": self.rng}

    @classmethod
    def of(cls, state: object) -> SavedState:
        """Builds a saved state from a dict of `to_dict`.

        Raises:
            ValueError: If `state` is not such a dict, or a value is not accepted.
        """
        names = {*_START, "deltas", "goal_image", "rng"}
        if not isinstance(state, Mapping):
            raise ValueError(f"state={shown(state)}; accepted: what `get_state` gave")
        if missing := names - {*state}:
            raise ValueError(f"state lacks {sorted(missing)}; accepted: what `get_state` gave")
        if more := {*state} - names:
            raise ValueError(f"state has {shown(sorted(map(str, more)))} too; accepted: what `get_state` gave")
        deltas = state["deltas"]
        try:
            steps = len(deltas)
            np.random.PCG64().state = state["rng"]
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            given = f"deltas={shown(deltas)}, rng={shown(state['rng'])}"
            raise ValueError(f"state: {given}; accepted: what `get_state` gave") from error
        goal = check_goal_image(state["goal_image"])
        start = EpisodeStart(**{name: state[name] for name in _START})
        shape = (steps, len(start.start))
        moves = _array("deltas", deltas, shape) if steps else np.zeros(shape, np.float32)
        return cls(start, moves, goal, dict(state["rng"]))


_START = tuple(EpisodeStart.__dataclass_fields__)


def check_reset_options(options: object) -> dict[str, Any]:
    """Returns the options of a reset after checking them.

    Raises:
        ValueError: If an option is not accepted.
    """
    taken = check_options(options, OPTIONS)
    if "state" in taken and len(taken) > 1:
        raise ValueError(f"options={[*taken]}: 'state' determines the whole episode; accepted: 'state' alone")
    if "task" in taken:
        check_choice("task", taken["task"], [*TASKS, "all"])
    for name in taken.keys() & {"instruction", "spoken"}:
        check_sentence(f"options[{name!r}]", taken[name])
    if not isinstance(taken.get("layout"), Layout | None):
        given = shown(taken["layout"])
        raise ValueError(f"options['layout']={given}; accepted: a `dream_env.nicol.layout.Layout`")
    if "goal_image" in taken:
        taken["goal_image"] = check_goal_image(taken["goal_image"])
    return taken


def check_arms(task: str, start: EpisodeStart) -> None:
    """Raises ValueError if an episode's task and the environment's task use different numbers of arms."""
    arms, own = TASKS[start.task_name].arms, 1 if task == "all" else TASKS[task].arms
    if arms != own:
        raise ValueError(
            f"task={start.task_name!r} moves {arms} arm(s); accepted by an env that was made with task={task!r}: tasks "
            f"that move {own}"
        )


def check_goal_image(picture: object) -> np.ndarray:
    """Returns a copy of a goal image.

    Raises:
        ValueError: If it is not `(64, 64, 3)` uint8.
    """
    goal, size = np.array(picture), (constants.IMAGE_SIZE, constants.IMAGE_SIZE, 3)
    if goal.shape != size or goal.dtype != np.uint8:
        raise ValueError(f"goal_image is {goal.dtype} {goal.shape}; accepted: uint8 {size}")
    return goal


def check_sentence(name: str, value: object) -> None:
    """Raises ValueError unless a value is a string with at least one known word."""
    if not isinstance(value, str):
        raise ValueError(f"{name}={shown(value)}; accepted: a sentence")
    embed(value)


def draw_task(rng: np.random.Generator, task: str, options: Mapping[str, Any], tasks: Sequence[str] = STANDARD) -> str:
    """Returns the task of an episode; for "all", draws one of `tasks`.

    Args:
        rng: The environment's random generator.
        task: The environment's task, used unless the options give one.
        options: Options of the reset.
        tasks: What "all" stands for.
    """
    name = options.get("task", task)
    return str(rng.choice(tasks)) if name == "all" else name


def draw_start(
    rng: np.random.Generator, task: str, options: Mapping[str, Any], physics: Physics, shift: Shift, scene: Shift
) -> EpisodeStart:
    """Draws the start of an episode, as far as the options leave it open.

    Args:
        rng: The environment's random generator.
        task: Name of the episode's task. An instruction in the options sets the task instead, unless the options
            contain a task too.
        options: Checked options of the reset.
        physics: Physical properties of the environment.
        shift: Shift of the physical properties.
        scene: Scene, from which the objects on the table and further properties are drawn.

    Raises:
        ValueError: If there is no room for the goals, the instruction matches no known task, or it names a cube that
            the given layout does not contain.
    """
    if "instruction" in options and "task" not in options:
        task = task_of(options["instruction"])
    wanted, shape, arms = TASKS[task].grammar.cubes, TASKS[task].shape, TASKS[task].arms
    layout = options.get("layout") or Layout.draw(rng, scene, wanted, shape)
    start = constants.normalize(rng.uniform(*start_box(arms)).astype(np.float32))
    there = layout.of(shape)
    if len(there) < wanted:
        raise ValueError(f"options['layout'] has {len(there)} {shape}s; accepted by {task!r}: {wanted} or more")
    target = there[int(rng.integers(len(there)))]
    other, named = None, [COLOR_NAMES[layout.colors[target]], None]
    if TASKS[task].grammar.cubes == 2:
        other = int(rng.choice([i for i in there if i != target]))
        named[1] = COLOR_NAMES[layout.colors[other]]
    sentence = TASKS[task].grammar.sample(rng, named[0], other=named[1])
    if "instruction" in options:
        sentence = options["instruction"]
        colors, cubes = colors_of(sentence), TASKS[task].grammar.cubes
        if len(colors) != cubes:
            raise ValueError(
                f"instruction={shown(sentence)} names {[*colors]}; {task!r} is accepted with {cubes} of them"
            )
        layout, target = _with(layout, target, colors[0], "layout" in options, sentence)
        other = None
        if cubes == 2:
            free = next(i for i in there if i != target)
            layout, other = _with(layout, free, colors[1], "layout" in options, sentence)
    spoken = options.get("spoken", sentence)
    goals = options.get("goals")
    if goals is None and TASKS[task].destinations:
        goals = draw_goals(rng, layout, [target] if other is None else [target, other])
    physics = shift.apply(scene.apply(physics, rng), rng)
    return EpisodeStart(task, sentence, spoken, target, other, layout, start, physics, goals)


def start_box(arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns lower and upper bounds of the set-point at the start, `(4,)` or `(8,)` in m and closing."""
    high = START_HIGH if arms == 1 else np.minimum(START_HIGH, [1.0, START_APART, 2.0, 1.0])
    return constants.box(START_LOW, high, arms)


def draw_goals(rng: np.random.Generator, layout: Layout, named: Sequence[int]) -> np.ndarray:
    """Draws goal positions for the named cubes, clear of the other objects and of each other.

    Args:
        rng: The environment's random generator.
        layout: The objects on the table.
        named: Indices of the named cubes.

    Returns:
        The positions, `(len(named), 2)` in m.

    Raises:
        Crowded: If there is no room for the goals.
    """
    goals: list[np.ndarray] = []
    for _ in range(TRIES):
        place, cube = rng.uniform(GOAL_LOW, GOAL_HIGH), named[len(goals)]
        apart = np.linalg.norm(layout.positions - place, axis=1)
        near = [np.linalg.norm(place - goal) < GOAL_SPACING for goal in goals]
        if apart[cube] < GOAL_FAR or np.delete(apart, cube).min(initial=1.0) < GOAL_SPACING or any(near):
            continue
        goals.append(place)
        if len(goals) == len(named):
            return np.stack(goals)
    raise Crowded(
        f"layout.positions={shown(layout.positions.tolist())} leave no room for the goals of {len(named)} cubes"
    )


def check_goals(value: object, count: int) -> np.ndarray:
    """Returns goal positions `(count, 2)` in m.

    Raises:
        ValueError: If they are not numbers of this shape, are out of the hand's reach, or too close to each other.
    """
    try:
        goals = np.array(value, np.float64)
        fits = goals.shape == (count, 2) and bool(((goals >= PLACE_LOW) & (goals <= PLACE_HIGH)).all())
    except (TypeError, ValueError):
        fits = False
    if not fits or (count == 2 and np.linalg.norm(goals[0] - goals[1]) < APART):
        (x, y), (far_x, far_y) = PLACE_LOW, PLACE_HIGH
        raise ValueError(
            f"goals={shown(value)}; accepted: {count} positions (x, y) with x from {x:g} to {far_x:g} and y from "
            f"{y:g} to {far_y:g} m, at least {APART:g} m apart"
        )
    return goals


def _with(layout: Layout, index: int, color: str, given: bool, sentence: str) -> tuple[Layout, int]:
    """Returns a layout that contains an object of a color, and that object's index.

    Args:
        layout: The layout.
        index: The object that is recolored if no object has the color yet.
        color: The color.
        given: Whether the layout was given by the user; it is then not changed.
        sentence: The instruction, for the error message.

    Raises:
        ValueError: If a given layout has no object of this color.
    """
    on_table = [PALETTE_NAMES[i] for i in layout.colors]
    if color in on_table:
        return layout, on_table.index(color)
    if given:
        raise ValueError(f"options['instruction']={shown(sentence)}; accepted: on this table are {on_table}")
    colors = layout.colors.copy()
    colors[index] = COLOR_NAMES.index(color)
    return replace(layout, colors=colors), index


def _array(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a value as a new float32 array.

    Raises:
        ValueError: If it does not hold numbers of this shape in [-1, 1].
    """
    try:
        array = np.array(value)
        fits = array.shape == shape and array.dtype.kind in "iuf" and bool((np.abs(array) <= 1).all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(f"{name}={shown(value)}; accepted: numbers {shape} in [-1, 1]")
    return array.astype(np.float32)

"""Maps keys, mouse and gamepad to actions, based on the action space and names in a world's spec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env.spec import WorldSpec

MODULES = {"NicoLReal-v0": "nicol.controls"}
"""Worlds whose axes follow the directions in the picture: maps the name to the module in `agents` with its `axes`."""
LEFT_RIGHT, DOWN_UP = (("KeyA", "ArrowLeft"), ("KeyD", "ArrowRight")), (("KeyS", "ArrowDown"), ("KeyW", "ArrowUp"))
LOWER_RAISE = (("KeyF",), ("KeyR",))
PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    LEFT_RIGHT,
    DOWN_UP,
    LOWER_RAISE,
    (("KeyQ",), ("KeyE",)),
    (("KeyJ",), ("KeyL",)),
    (("KeyK",), ("KeyI",)),
    (("KeyU",), ("KeyO",)),
)
"""Pairs of keys that decrease and increase one action component, in the order they are assigned. Keys are named by
their place on the keyboard, as in the browsers' `KeyboardEvent.code`."""
TOGGLES = ("Space", "KeyG", "KeyH")
"""Keys that switch between two ends, such as an open and a closed hand."""
ARROWS = {2: ("ArrowLeft", "ArrowRight"), 3: ("ArrowLeft", "ArrowDown", "ArrowRight")}
"""Arrow keys for two or three discrete actions, in addition to number keys; environments order these from left to
right."""


@dataclass(frozen=True)
class Axis:
    """One direction of control, in both senses.

    Attributes:
        label: Name shown on the page.
        minus: Keys of the negative direction.
        plus: Keys of the positive direction; empty if a single key switches between both.
        down: What full deflection towards minus adds to the action at rest `(A,)`.
        up: What full deflection towards plus adds.
        toggle: Whether the axis keeps its position after the key is released, as for grippers.
    """

    label: str
    minus: tuple[str, ...]
    plus: tuple[str, ...]
    down: tuple[float, ...]
    up: tuple[float, ...]
    toggle: bool = False


@dataclass(frozen=True)
class Choice:
    """One discrete action.

    Attributes:
        label: Name shown on the page.
        keys: Keys that choose it.
        value: The action.
    """

    label: str
    keys: tuple[str, ...]
    value: int


@dataclass(frozen=True)
class Controls:
    """All controls of a world.

    Attributes:
        rest: The zero action, clipped to the action space, `(A,)`; empty for discrete actions.
        axes: Axes of a continuous action; the first two form the pad.
        choices: Discrete actions.
    """

    rest: tuple[float, ...] = ()
    axes: tuple[Axis, ...] = ()
    choices: tuple[Choice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the controls as a dict for the page."""
        return asdict(self)


def controls_of(spec: WorldSpec) -> Controls:
    """Assigns keys to every action component, or to every discrete action."""
    space, names = spec.action, spec.names.get("action", ())
    if isinstance(space, spaces.Discrete):
        arrows = ARROWS.get(int(space.n), ())
        numbers = [(f"Digit{i + 1}",) if i < 9 else () for i in range(int(space.n))]
        return Controls(
            choices=tuple(
                Choice(names[i] if i < len(names) else str(i + 1), numbers[i] + arrows[i : i + 1], int(space.start) + i)
                for i in range(int(space.n))
            )
        )
    low, high = bounds(space)
    rest = np.clip(np.zeros_like(low), low, high)
    if spec.name in MODULES:
        axes = import_module(f"dream_env.agents.{MODULES[spec.name]}").axes()
    else:
        axes = _axes(names or [f"action {i + 1}" for i in range(len(low))], low - rest, high - rest)
    return Controls(tuple(rest.tolist()), axes)


def bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper bounds of actions `(A,)`; -1 and 1 replace infinite bounds."""
    return np.where(np.isfinite(space.low), space.low, -1.0), np.where(np.isfinite(space.high), space.high, 1.0)


def _axes(names: Sequence[str], down: np.ndarray, up: np.ndarray) -> tuple[Axis, ...]:
    """Assigns x, y and z the keys for forward, left and up (the frame of ROS, REP 103), and the rest the free keys."""
    conventions = {"x": (DOWN_UP, 1), "y": (LEFT_RIGHT, -1), "z": (LOWER_RAISE, 1)}
    letters = [_letter(name) for name in names]
    placed = {i: conventions[one] for i, one in enumerate(letters) if one and letters.count(one) == 1}
    toggles, taken = iter(TOGGLES), [keys for keys, _ in placed.values()]
    free = iter([pair for pair in PAIRS if pair not in taken])
    axes = []
    for i, name in enumerate(names):
        ends = [tuple(float(value) if j == i else 0.0 for j in range(len(names))) for value in (down[i], up[i])]
        key = next(toggles, None) if _grips(name) else None
        if key is not None:
            axes.append(Axis(name, (key,), (), ends[0], ends[1], True))
            continue
        keys, sign = placed.get(i) or (next(free, ((), ())), 1)
        minus, plus = ends[::sign]
        axes.append(Axis(name, *keys, minus, plus))
    return tuple(sorted(axes, key=_rank))


def _rank(axis: Axis) -> int:
    """Returns the sort key of an axis: axes of the pad first, toggles last."""
    order = [pair[0] for pair in PAIRS]
    return len(order) + axis.toggle if axis.minus not in order else order.index(axis.minus)


def _letter(name: str) -> str | None:
    found = re.fullmatch(r"(?:.*[ _.])?d?([xyz])", name.lower())
    return found[1] if found else None


def _grips(name: str) -> bool:
    return any(part in name.lower() for part in ("grip", "clos", "finger"))

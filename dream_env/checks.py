"""Argument checks whose errors name the argument, the value given and the values accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Number, Real
from typing import Any, get_args

import numpy as np
from gymnasium import spaces


def shown(value: object, length: int = 80) -> str:
    """Formats a value for an error message: its `repr` on one line, cut to `length` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[:length]}..."


def check_choice(name: str, value: object, accepted: Any) -> None:
    """Raises ValueError unless `value` is one of `accepted` (a Literal type or an iterable of values)."""
    choices = get_args(accepted) or tuple(accepted)
    if not isinstance(value, str | Number | None) or value not in choices:  # `in` fails on arrays
        raise ValueError(f"{name}={shown(value)} is not known; accepted: {', '.join(map(repr, choices))}")


def check_flag(name: str, value: object) -> None:
    """Raises ValueError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={shown(value)}; accepted: True or False")


def check_number(name: str, value: object, low: float = 0.0, high: float = np.inf, *, beside: str = "") -> None:
    """Raises ValueError unless `value` is a finite number in [low, high].

    Args:
        name: Name of the argument.
        value: Its value.
        low: Smallest accepted number.
        high: Largest accepted number.
        beside: Text for the message that lists other accepted values, such as "None, ".
    """
    try:
        number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else np.nan
    except OverflowError:  # an integer too large for a float
        number = np.inf
    if not low <= number <= high or np.isinf(number):
        bounds = f"at least {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name}={shown(value)}; accepted: {beside}a finite number, {bounds}")


def check_count(name: str, value: object, low: int = 1, high: float = np.inf, *, beside: str = "") -> None:
    """Raises ValueError unless `value` is an integer from `low` to `high`; `beside` as in `check_number`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        bounds = f"at least {low}" if high == np.inf else f"{low} to {high}"
        raise ValueError(f"{name}={shown(value)}; accepted: {beside}an integer, {bounds}")


def check_bounds(config: object, bounds: Iterable[tuple[str, int, int]]) -> None:
    """Raises ValueError unless fields of a config are whole numbers within bounds.

    Args:
        config: The config, whose fields may come from a damaged file.
        bounds: Name, smallest and largest accepted value of each field to check.
    """
    for name, least, most in bounds:
        value = getattr(config, name)
        if not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{name}={value!r}; accepted: a whole number, {least} to {most}")


def check_array(name: str, value: object, shape: tuple[int, ...], kinds: str = "iuf") -> np.ndarray:
    """Returns `value` as a new array of finite numbers.

    Args:
        name: Name of the argument.
        value: Anything that `numpy.array` accepts.
        shape: Required shape.
        kinds: Accepted dtype kinds (numpy's letters).

    Raises:
        ValueError: If the shape or the dtype differs, or a number is not finite.
    """
    try:
        array = np.array(value)
        fits = array.shape == shape and array.dtype.kind in kinds and bool(np.isfinite(array).all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(f"{name}={shown(value)}; accepted: {shape[0]} finite numbers, shape {shape}")
    return array


def check_options(options: object, accepted: Sequence[str]) -> dict[str, Any]:
    """Returns a copy of the `options` of `reset`; None becomes an empty dict.

    Raises:
        ValueError: If `options` is not a dict, or has a key that is not accepted.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError(f"options={shown(options)}; accepted: None, or a dict with keys of {', '.join(accepted)}")
    for key in options:
        check_choice("options key", key, accepted)
    return dict(options)


def check_seed(seed: object) -> int | None:
    """Returns a seed as a Python integer, as Gymnasium requires; None is returned as it is.

    Raises:
        ValueError: If it is neither None nor an integer of at least 0.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed={shown(seed)}; accepted: None, or an integer of at least 0")
    return int(seed)


def check_seeds(seed: object, num_envs: int) -> list[int | None]:
    """Returns one seed for each environment of a vector environment.

    Args:
        seed: Seed of env 0 (env i gets seed + i), None, or a sequence or array of `num_envs` seeds.
        num_envs: Number of environments.

    Raises:
        ValueError: If `seed` has another form.
    """
    if isinstance(seed, np.ndarray):
        seed = seed.tolist()
    if isinstance(seed, Sequence) and not isinstance(seed, str | bytes):
        if len(seed) != num_envs:
            raise ValueError(f"seed has {len(seed)} entries; accepted: None, an integer or {num_envs} of them")
        return [check_seed(each) for each in seed]
    first = check_seed(seed)
    return [None if first is None else first + i for i in range(num_envs)]


def check_action(action: Any, space: spaces.Space) -> np.ndarray:
    """Converts an action to the array that an environment uses.

    Args:
        action: A number, sequence, array or tensor (on any device, of any floating-point type).
        space: The action space, a `Box` or a `Discrete`.

    Returns:
        For a `Box`: a float32 array of its shape, clipped to its bounds. For a `Discrete`: a 0-d int64 array.

    Raises:
        ValueError: If the action has the wrong shape, is not numeric, is not finite, requires a gradient, or lies
            outside the range of a `Discrete`.
    """
    return _checked("action", action, space, ())


def check_actions(actions: Any, space: spaces.Space, num_envs: int) -> np.ndarray:
    """Converts the actions `(num_envs, ...)` of a vector env; `space` is that of one env. See `check_action`."""
    return _checked("actions", actions, space, (num_envs,))


def _checked(name: str, value: Any, space: spaces.Space, batch: tuple[int, ...]) -> np.ndarray:
    shape = batch + (space.shape or ())
    array = _numbers(name, value, "iu" if isinstance(space, spaces.Discrete) else "iuf", shape)
    if isinstance(space, spaces.Discrete):
        last = space.start + space.n - 1
        if (array < space.start).any() or (array > last).any():
            raise ValueError(f"{name}={shown(value)}; accepted: {space.start} to {last}")
        return array.astype(np.int64)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"action space {shown(space)}; accepted: a Box or a Discrete")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"{name}={shown(value)} holds NaN or infinity; accepted: finite numbers {shape}")
    return array.clip(space.low, space.high).astype(np.float32)


def _numbers(name: str, value: Any, kinds: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a value as an array of the given shape whose dtype kind (numpy's letters) is one of `kinds`."""
    what = f"{'integers' if kinds == 'iu' else 'real numbers'} of shape {shape}"
    if getattr(value, "requires_grad", False):
        raise ValueError(f"{name} requires a gradient, which a Gymnasium env cannot pass on; accepted: action.detach()")
    if hasattr(value, "detach"):  # a tensor; numpy has no bfloat16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or not convertible
        raise ValueError(f"{name}={shown(value)}; accepted: {what}") from error
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name}={shown(value)} is of type {array.dtype}; accepted: {what}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; accepted: {what}")
    return array

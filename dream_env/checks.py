"""Checks of arguments: errors that name what is accepted."""

from __future__ import annotations

from numbers import Real
from typing import Any, get_args

import numpy as np


def check_choice(name: str, value: object, accepted: Any) -> None:
    """Raises ValueError unless `value` is one of `accepted` (a Literal type or an iterable of values)."""
    choices = get_args(accepted) or tuple(accepted)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; accepted: {', '.join(map(repr, choices))}")


def check_number(name: str, value: object, low: float = 0.0, high: float = np.inf, *, beside: str = "") -> None:
    """Raises ValueError unless `value` is a finite number from `low` to `high`; `beside` tells what else is."""
    if not isinstance(value, Real) or not low <= float(value) <= high or np.isinf(float(value)):
        bounds = f"at least {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name}={value!r}; accepted: {beside}a finite number, {bounds}")

"""Checks the numbers among a command's options before the command starts."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from dream_env.checks import check_number

SIGNED = ("action_low", "action_high")
"""Options that may be negative."""
ENDLESS = ("last_step",)
"""Options that may be infinite."""
COUNTS = ("batch", "chunk", "candidates", "horizon", "execute", "latent", "members", "skip", "hold", "size", "width")
"""Options that have to be at least 1, in any command; also as the last word of a name, such as in `picture_size`."""


def check_numbers(arguments: Any) -> None:
    """Checks that the numbers among a command's options are finite and not negative, and at least 1 for `COUNTS`.

    Commands check further conditions themselves. Options that have their default value are not checked.

    Args:
        arguments: A dataclass, which may contain others.

    Raises:
        ValueError: If a number is not accepted; the message names the option.
    """
    for one in fields(arguments):
        value = getattr(arguments, one.name)
        if is_dataclass(value):
            check_numbers(value)
        elif one.name not in SIGNED and value != one.default:  # a default of 0 may stand for "off"
            least = 1 if one.name.rpartition("_")[2] in COUNTS else 0
            for number in value if isinstance(value, tuple | list) else (value,):
                if one.name in ENDLESS and number == math.inf:
                    continue
                if isinstance(number, int | float) and not isinstance(number, bool):
                    check_number(one.name, number, least)

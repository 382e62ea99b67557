"""Numbers that no command can do anything with, refused before the work begins."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from dream_env.checks import check_number

SIGNED = ("action_low", "action_high")
"""Options that may be below zero."""
ENDLESS = ("last_step",)
"""Options that may be infinite."""
COUNTS = ("batch", "chunk", "candidates", "horizon", "execute", "latent", "members", "skip", "hold", "size", "width")
"""Options of which zero makes no sense, in any command; as the last word too, such as in `picture_size`."""


def check_numbers(arguments: Any) -> None:
    """Refuses numbers below zero, NaN and infinity among the options of a command, and zero where there has to be some.

    What else a command refuses it says itself.

    Args:
        arguments: A dataclass, which may hold others.

    Raises:
        ValueError: If a number is not accepted; it names the option.
    """
    for one in fields(arguments):
        value = getattr(arguments, one.name)
        if is_dataclass(value):
            check_numbers(value)
        elif one.name not in SIGNED and value != one.default:  # a default of zero leaves something out
            least = 1 if one.name.rpartition("_")[2] in COUNTS else 0
            for number in value if isinstance(value, tuple | list) else (value,):
                if one.name in ENDLESS and number == math.inf:
                    continue
                if isinstance(number, int | float) and not isinstance(number, bool):
                    check_number(one.name, number, least)

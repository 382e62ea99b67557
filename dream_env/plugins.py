"""Kinds of world models and policies that other installed packages add, as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


def kinds(own: Mapping[str, str], group: str) -> dict[str, str]:
    """Returns the kinds of this package and those that installed packages add.

    Args:
        own: Module and class ("MODULE:CLASS") of each kind of this package; these take precedence.
        group: Entry-point group in which other packages name theirs.
    """
    return {**own, **{point.name: point.value for point in entry_points(group=group) if point.name not in own}}


def find(kind: str, own: Mapping[str, str], group: str) -> Any:
    """Imports and returns the class of a kind; arguments as in `kinds`, which is read only if `own` lacks the kind.

    Raises:
        KeyError: If there is no such kind.
    """
    module, name = (own[kind] if kind in own else kinds(own, group)[kind]).split(":")
    return getattr(import_module(module), name)

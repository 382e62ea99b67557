"""Loads configs and weights from untrusted files: sizes are limited by the file, shapes and values are checked."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from dream_env.world_models.precision import standard

LARGEST = 2**20
"""Largest absolute value of a number in a config."""


def read_config(file: Path, what: str, remedy: str) -> dict[str, Any]:
    """Reads a `config.json`: a mapping with a `kind`, whose numbers are finite and at most `LARGEST`.

    Args:
        file: The `config.json`.
        what: Name of the argument that gave the file, for error messages.
        remedy: Advice at the end of error messages.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is a folder, is damaged, or holds something else.
    """
    if not file.exists():
        raise FileNotFoundError(f"{what}: {file} does not exist; {remedy}")
    try:
        values = dict(json.loads(file.read_text(encoding="utf-8")))
        values["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'{what}: {file} is not {{"kind": ..., ...}} ({error!r}); {remedy}') from error
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not (math.isfinite(number) and abs(number) <= LARGEST):
                raise ValueError(f"{what}: {file} has {name}={value}; accepted: numbers up to {LARGEST}; {remedy}")
    return values


def config_of(config_class: Any, values: Mapping[str, Any]) -> Any:
    """Builds a config, a dataclass, from values of a `config.json` of this version or an older one.

    Args:
        config_class: The dataclass. Its class attribute `RENAMED`, if any, maps old names of fields to current ones.
        values: Values by name, without the `kind`.

    Raises:
        ValueError: If a name is not known, a value is of another type, or the config refuses a value.
    """
    renamed = getattr(config_class, "RENAMED", {})
    given = {renamed.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    accepted = sorted(field.name for field in fields(config_class))
    if unknown := sorted(given.keys() - set(accepted)):
        raise ValueError(f"unknown fields {unknown}; accepted: {accepted}")
    types = get_type_hints(config_class)
    for name, value in given.items():
        if not _is_of(value, types[name]):
            asked = getattr(types[name], "__name__", types[name]) if isinstance(types[name], type) else types[name]
            raise ValueError(f"{name}={value!r}; accepted: {asked}")
    return config_class(**given)


def _is_of(value: Any, kind: Any) -> bool:
    """Returns whether a value of a JSON file is of the type of a config's field; of types other than these, it is."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is_of(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        each = inner[:1] * len(value) if isinstance(value, tuple) and inner[1:] == (...,) else inner
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_is_of, value, each))
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (bool, str, NoneType) else True


def fill(build: Callable[[], Any], file: Path, what: str, remedy: str, renamed: Mapping[str, str] | None = None) -> Any:
    """Builds a module and loads its weights from a file.

    Args:
        build: Builds the untrained module, which must not have more weights than the file.
        file: A safetensors file.
        what: Name of the argument that gave the file, for error messages.
        remedy: Advice at the end of error messages.
        renamed: Old to current beginnings of weight names, for checkpoints of older versions.

    Returns:
        The module, in float32 on the CPU regardless of torch's defaults. The state of torch's global random number
        generator is not changed.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, does not match the module or holds NaN or infinity, or if the module cannot
            be built.
    """
    if not file.exists():
        raise FileNotFoundError(f"{what}: {file} does not exist; {remedy}")
    try:
        with safe_open(file, "pt") as opened:
            sizes = {name: math.prod(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        with standard(), torch.inference_mode(False), torch.random.fork_rng([]), _no_larger_than(sizes):
            module = build()
        tensors = with_current_names(load_file(file), renamed or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{what}: {file} is damaged ({error}); {remedy}") from error
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, AttributeError, MemoryError) as error:
        raise ValueError(f"{what}: {file.with_name('config.json')} describes no model ({error}); {remedy}") from error
    _check(module.state_dict(), tensors, file, what, remedy)
    with torch.inference_mode(False):
        module.load_state_dict(tensors)
    return module


def with_current_names(tensors: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Returns weights by name, where names that begin with an old name begin with the current one instead."""
    found = dict(tensors)
    for old, new in renamed.items():
        found = {new + name.removeprefix(old) if name.startswith(old) else name: part for name, part in found.items()}
    return found


@contextmanager
def _no_larger_than(sizes: Mapping[str, int]) -> Iterator[None]:
    """Stops the construction of a module that has more, or larger, parameters than a file."""
    count, largest, here = 0, max(sizes.values(), default=0), threading.get_ident()

    def check(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        if threading.get_ident() != here or parameter is None:
            return
        count += 1
        if count > 2 * len(sizes) + 8 or parameter.numel() > largest:
            raise ValueError("it has more weights than model.safetensors")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


def _check(
    expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], file: Path, what: str, remedy: str
) -> None:
    """Raises ValueError unless both hold tensors of the same names, shapes and dtypes, and all values are finite."""
    problems = [f"{name} is missing" for name in expected.keys() - given.keys()]
    problems += [f"{name} is not known" for name in given.keys() - expected.keys()]
    for name in expected.keys() & given.keys():
        want, got = expected[name], given[name]
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            problems.append(f"{name} is {got.dtype} {tuple(got.shape)}, not {want.dtype} {tuple(want.shape)}")
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + ("; ..." if len(problems) > 3 else "")
        raise ValueError(f"{what}: {file} does not fit config.json: {shown}; {remedy}")
    if broken := [name for name, value in given.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{what}: {file} holds NaN or infinity in {', '.join(sorted(broken)[:3])}; {remedy}")

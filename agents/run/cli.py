"""The command line of all commands: `dream-env COMMAND ...` or `python -m agents.COMMAND ...`.

A command is a folder in `agents` with `arguments.py` (a dataclass `Arguments`; imports nothing heavy) and `command.py`
(a function `main` that takes it), or a single file with both. Expected errors are printed as one line; set
DREAM_ENV_TRACEBACK=1 in the environment to see the traceback.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import fields, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from dream_env.agents.run.config import program
from dream_env.agents.run.numbers import check_numbers
from dream_env.checks import check_choice

ROOT = Path(__file__).parents[1]
PARTS = ("data", "eval", "planners", "policies", "run", "studies")
"""Folders in `agents` that commands share and that are not commands themselves."""
ON_THE_HUB = {name: "model" for name in ("world_model", "policy", "policies", "init", "prior", "autoencoder")} | {
    name: "dataset" for name in ("data", "test")
}
"""Options that accept `hf://user/name` as well as a folder, and the kind of repository that each one names."""
NOT_RESUMED = {"evaluate", "foresee", "plan", "report", "share", "view"} | {
    f"studies.{name}" for name in ("bench", "fused", "imagined", "phrasings", "unlabelled")
}
"""Commands that start over when they are given again; all others resume an interrupted run."""
EXPECTED = (ValueError, OSError, ImportError, MemoryError, BrokenProcessPool)
"""Errors whose message tells the user what is wrong, so that no traceback is needed."""


def commands() -> dict[str, Path]:
    """Returns all commands: name, and folder or file."""
    found = {}
    for folder, prefix in ((ROOT, ""), (ROOT / "studies", "studies.")):
        for path in sorted(folder.iterdir()):
            shared = not prefix and path.name in PARTS
            if path.is_dir() and not shared and (path / "__main__.py").is_file():
                found[prefix + path.name] = path
            elif path.suffix == ".py" and not path.name.startswith("_"):
                found[prefix + path.stem] = path
    return found


def modules(name: str, words: list[str]) -> tuple[str, str]:
    """Returns the module with a command's `Arguments` and the module with its `main`; for a single file they are equal.

    Args:
        name: Name of the command.
        words: Its command-line words. If the command has a `kinds.py`, the option that selects the kind (`--model`
            or the module's `OPTION`) is removed from this list; its `default` selects the kind if it is not given.

    Raises:
        ValueError: If the kind is not known.
    """
    base, path = f"dream_env.agents.{name}", commands()[name]
    if path.is_file():
        return base, base
    if not (path / "kinds.py").is_file():
        return f"{base}.arguments", f"{base}.command"
    offered = import_module(f"{base}.kinds")
    kinds, kind, option = offered.KINDS, offered.default(words), getattr(offered, "OPTION", "--model")
    for place, word in enumerate(words):
        if word == option or word.startswith(f"{option}="):
            given = words[place : place + 1 + (word == option)]
            del words[place : place + len(given)]
            kind = given[-1].removeprefix(f"{option}=")
            check_choice(option.removeprefix("--"), kind, kinds)
            break
    return kinds[kind]


def _tree(module: str) -> ast.Module:
    """Parses a module without importing it."""
    file = ROOT.joinpath(*module.split(".")[2:]).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def description(name: str, words: Sequence[str] = ()) -> str:
    """Returns the description of a command: the docstring of its module, read without importing it."""
    text = ast.get_docstring(_tree(modules(name, [*words])[1])) or ""
    return re.sub(r"python -m agents\.([\w.]*\w)", lambda match: program(match[1]), text)


def summary(name: str) -> str:
    """Returns a one-line summary of a command: the first line of the docstring of its `Arguments`."""
    classes = [node for node in _tree(modules(name, [])[0]).body if isinstance(node, ast.ClassDef)]
    texts = {node.name: ast.get_docstring(node) or "" for node in classes}
    return texts.get("Arguments", description(name)).split("\n")[0].rstrip(".")


def option_texts(arguments: type) -> dict[str, str]:
    """Returns the help text of every option: the docstring below the attribute, on one line.

    Tyro finds these docstrings as well, but keeps their line breaks.
    """
    texts: dict[str, str] = {}
    for base in reversed(arguments.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, text in pairwise(tree.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                texts[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return texts


def parse(name: str, words: Sequence[str]) -> Any:
    """Parses a command line into the command's `Arguments`.

    Raises:
        SystemExit: After printing help, or with a one-line message if an option is unknown or a value not accepted.
    """
    import tyro

    text, words = description(name, words), list(words)
    found = import_module(modules(name, words)[0])
    accepted, rare = found.Arguments, getattr(found, "RARE", ())
    if {"-h", "--help", "--help-all"} & {*words}:
        hidden = () if "--help-all" in words else rare
        kinds, texts = get_type_hints(accepted, include_extras=True), option_texts(accepted)
        accepted = type("Arguments", (accepted,), {"__annotations__": {}, "__doc__": accepted.__doc__})
        for option, kind in kinds.items():
            shown = tyro.conf.Suppress if option in hidden else tyro.conf.arg(help=texts.get(option))
            accepted.__annotations__[option] = Annotated[kind, shown]
        words = ["--help"]
        if hidden:
            text += "\n\n--help-all also shows the options that are rarely needed."
    words = renew(words, getattr(found, "RENAMED", {}))
    check_empty(accepted, words)
    words = join_repeated(accepted, [expand_home(word) for word in words])
    refused = io.StringIO()
    try:
        with redirect_stderr(refused):
            return tyro.cli(accepted, prog=program(name), description=text, args=words)
    except SystemExit as end:
        if not end.code:
            raise
        raise SystemExit(f"{program(name)}: {_unboxed(refused.getvalue())}; --help shows all options") from None


def _unboxed(text: str) -> str:
    """Converts an error message that tyro prints in a box to one line."""
    lines = [line.strip("│╭╮╰╯─ ") for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()]
    said = " ".join(line for line in lines[1:] if line and not line.startswith("For full helptext"))
    if missing := re.findall(r"(--[\w.-]+) [A-Z{\[]", said) if said.startswith("Missing") else []:
        return f"missing: {', '.join(missing)}"
    return said.removeprefix("Error parsing Arguments: ").rstrip(".")


def renew(words: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Replaces old option names by their current names, and prints a notice for each one."""
    result = []
    for word in words:
        option, equals, value = word.partition("=")
        if option in renamed:
            print(f"{option} is called {renamed[option]} now; the old name goes with the next version", file=sys.stderr)
        result.append(renamed.get(option, option) + equals + value)
    return result


def check_empty(accepted: Any, words: Sequence[str]) -> None:
    """Raises ValueError for an empty value, which as a path would mean the current folder.

    Args:
        accepted: The dataclass of the arguments; options whose default is empty may be empty.
        words: Words of the command line.
    """
    usual = {"--" + one.name.replace("_", "-"): one.default for one in fields(accepted)}
    option = ""
    for word in words:
        value = word
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            if not equals:
                continue
        if not value.strip() and usual.get(option.replace("_", "-")) != "":
            raise ValueError(f"{option}={value!r} is empty; accepted: a name or a path; '.' is the current folder")


def expand_home(word: str) -> str:
    """Expands `~` where the shell does not: in `--out=~/runs`, and in `LABEL=~/runs`."""
    option, equals, path = word.rpartition("=")
    return option + equals + os.path.expanduser(path) if path == "~" or path.startswith("~/") else word


def join_repeated(accepted: Any, words: Sequence[str]) -> list[str]:
    """Allows an option that takes several values to be repeated: `--policy a --policy b` means `--policy a b`.

    Args:
        accepted: The dataclass of the arguments.
        words: Words of the command line. Several values for an option of type `str` are joined by commas.
    """
    kinds = get_type_hints(accepted)
    options = {"--" + name.replace("_", "-"): kinds[name] for name in (field.name for field in fields(accepted))}
    found: list[tuple[str, list[str]]] = [("", [])]
    for word in words:
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            found[-1][1].append(word)
            continue
        option = option.replace("_", "-")
        several = get_origin(options.get(option)) in (tuple, list)
        before = [values for name, values in found if name == option] if several else []
        if before:  # append the values to those of the first occurrence
            found.append((option, before[0]))
        else:
            found.append((option, []))
        found[-1][1].extend([value] if equals else [])
    joined: list[str] = []
    taken: set[str] = set()
    for option, values in found:
        if option in taken and get_origin(options.get(option)) in (tuple, list):
            continue
        taken.add(option)
        if options.get(option) in (str, str | None) and len(values) > 1:
            values = [",".join(values)]
        joined += [option] * bool(option) + values
    return joined


def command(name: str, words: Sequence[str] | None = None) -> None:
    """Runs a command from its command line. All commands start here.

    Args:
        name: Name of the command in `agents`.
        words: Words of its command line; None for those of this process.

    Raises:
        SystemExit: With a one-line message, after an expected error or an interrupt.
    """
    # torch's OpenMP threads busy-wait; this must be set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = sys.argv[1:] if words is None else words
    with one_line(name):
        arguments = parse(name, words)
        if not getattr(sys.modules[type(arguments).__module__], "KEEPS_NAMES", False):
            arguments = downloaded(arguments)
        check_numbers(arguments)
        with written_by_us(arguments):
            import_module(modules(name, [*words])[1]).main(arguments)


def downloaded(arguments: Any) -> Any:
    """Downloads what `hf://user/name@revision` names, and returns the arguments with local folders instead."""
    from dream_env import hub

    def local(value: Any, kind: Any) -> Any:
        label, equals, name = str(value).rpartition("=")  # LABEL=hf://user/name
        if not hub.is_hub_name(name):
            return value
        return type(value)(f"{label}{equals}{hub.folder(name, kind)}")

    found = {}
    for one in fields(arguments):
        value = getattr(arguments, one.name)
        if one.name in ON_THE_HUB and isinstance(value, str | Path | tuple):
            kind = ON_THE_HUB[one.name]
            found[one.name] = (
                tuple(local(each, kind) for each in value) if isinstance(value, tuple) else local(value, kind)
            )
    return replace(arguments, **{name: value for name, value in found.items() if value != getattr(arguments, name)})


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Reports expected errors and Ctrl-C in one line instead of a traceback; a second Ctrl-C exits immediately."""
    try:
        yield
    except KeyboardInterrupt:
        # Workers may need a while to finish their current items; after a second Ctrl-C they end with this process.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        resumes = name not in NOT_RESUMED
        raise SystemExit("\ninterrupted" + "; run the same command again to resume" * resumes) from None
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except EXPECTED as error:
        slip = isinstance(error, ImportError) and "pip install" not in str(error)  # a bug, not a missing extra
        if slip or os.environ.get("DREAM_ENV_TRACEBACK"):
            raise
        raise SystemExit(f"{program(name)}: {said(error)}") from None


def said(error: BaseException) -> str:
    """Returns the message of an error as one line."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def written_by_us(arguments: Any) -> Any:
    """Locks the folder that a command writes to, but no file; in distributed training only rank 0 does."""
    from dream_env.files import locked

    out = getattr(arguments, "folder", None) or getattr(arguments, "out", None)
    if not isinstance(out, Path) or int(os.environ.get("RANK", 0)):
        return nullcontext()
    if out.suffix == ".json" or out.is_file():  # written at once, or refused by the command
        return nullcontext()
    return locked(out)


def main() -> None:
    """Runs the command that the first word names, or lists all commands."""
    words, names = sys.argv[1:], commands()
    if not {"", os.getcwd()} & {*sys.path}:  # `python -m` has it; `--env MODULE:ID` imports the user's module from it
        sys.path.append(os.getcwd())
    if words == ["--version"]:
        print(f"dream-env {import_module('dream_env').__version__}")
        return
    if words and words[0] in names:
        sys.argv = [f"{Path(sys.argv[0]).name} {words[0]}", *words[1:]]
        command(words[0])
        return
    if words and words[0] not in ("-h", "--help"):
        raise SystemExit(f"dream-env: {words[0]!r} is no command; accepted: {', '.join(names)}")
    print("dream-env COMMAND ...: learned world models of robots as Gymnasium environments\n")
    for name in names:
        print(f"  {name:22} {summary(name)}")
    print(f"\n{program('COMMAND')} --help shows the options of a command.")

"""One entry for all commands: `dream-env COMMAND ...`, `python -m agents.COMMAND ...`.

A command is a folder of `agents` with `arguments.py` (a dataclass `Arguments`, which imports nothing heavy) and
`command.py` (a function `main` that takes it), or a single file with both. What a command refuses ends in one line;
DREAM_ENV_TRACEBACK=1 in the environment shows where it came from.
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
"""Folders of `agents` that are shared by the commands, and no commands themselves."""
ON_THE_HUB = {name: "model" for name in ("world_model", "policy", "policies", "init", "prior", "autoencoder")} | {
    name: "dataset" for name in ("data", "test")
}
"""Options that take `hf://user/name` as well as a folder, and the kind of repository that each means."""
NOT_RESUMED = {"evaluate", "foresee", "plan", "report", "share", "view"} | {
    f"studies.{name}" for name in ("bench", "fused", "imagined", "phrasings", "unlabelled")
}
"""Commands that start over when they are given again; all others resume an interrupted run."""
EXPECTED = (ValueError, OSError, ImportError, MemoryError, BrokenProcessPool)
"""Errors that tell what is wrong in their message."""


def commands() -> dict[str, Path]:
    """Returns the names of all commands, and the folder or file of each."""
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
    """Returns the modules of a command's arguments and of what it does; a single file is both.

    Args:
        name: Name of the command.
        words: Its options; `--model KIND`, or what `kinds.py` of a command with kinds calls it (`OPTION`), is taken out
            of them; `kinds.py` tells what is meant without it.

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
    """Returns what a command does: the docstring of its module, which is not imported."""
    text = ast.get_docstring(_tree(modules(name, [*words])[1])) or ""
    return re.sub(r"python -m agents\.([\w.]*\w)", lambda match: program(match[1]), text)


def summary(name: str) -> str:
    """Returns what a command does in a line: the first one of the docstring of its arguments."""
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
    """Returns the arguments that the words of a command line stand for.

    Raises:
        SystemExit: After help, or with one line if an option is not known or a value not accepted.
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
            text += "\n\n--help-all shows the options that are rarely needed, too."
    words = renew(words, getattr(found, "RENAMED", {}))
    words = join_repeated(accepted, [expand_home(word) for word in words])
    refused = io.StringIO()
    try:
        with redirect_stderr(refused):
            return tyro.cli(accepted, prog=program(name), description=text, args=words)
    except SystemExit as end:
        if not end.code:
            raise
        raise SystemExit(f"{program(name)}: {_unboxed(refused.getvalue())}; --help tells all options") from None


def _unboxed(text: str) -> str:
    """Returns what tyro says in a box as one line."""
    lines = [line.strip("│╭╮╰╯─ ") for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()]
    said = " ".join(line for line in lines[1:] if line and not line.startswith("For full helptext"))
    if missing := re.findall(r"(--[\w.-]+) [A-Z{\[]", said) if said.startswith("Missing") else []:
        return f"missing: {', '.join(missing)}"
    return said.removeprefix("Error parsing Arguments: ").rstrip(".")


def renew(words: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Returns words in which options have their names of now, and says so of each that had not."""
    result = []
    for word in words:
        option, equals, value = word.partition("=")
        if option in renamed:
            print(f"{option} is called {renamed[option]} now; the old name goes with the next version", file=sys.stderr)
        result.append(renamed.get(option, option) + equals + value)
    return result


def expand_home(word: str) -> str:
    """Expands `~` where a shell leaves it: in `--out=~/runs`, and in `LABEL=~/runs`."""
    option, equals, path = word.rpartition("=")
    return option + equals + os.path.expanduser(path) if path == "~" or path.startswith("~/") else word


def join_repeated(accepted: Any, words: Sequence[str]) -> list[str]:
    """Lets an option that takes several values be given as one likes: `--policy a --policy b`, `--tasks push lift`.

    Args:
        accepted: The dataclass of the arguments.
        words: Words of the command line. Several values of an option that is a text are joined by commas.
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
        if before:  # what follows belongs to the option's first place
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
    """Runs a command to its end: the way in for all of them.

    Args:
        name: Name of the command in `agents`.
        words: Its options; None takes those of this process.

    Raises:
        SystemExit: With one line, if it was refused or interrupted.
    """
    # torch's OpenMP threads spin while they wait; set before torch is imported.
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
    """Returns the arguments with local folders in place of names on the Hub, `hf://user/name@revision`."""
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
    """Ends a command in one line after an error that says what is wrong, and after Ctrl-C; a second ends it at once."""
    try:
        yield
    except KeyboardInterrupt:
        # What workers have in hand may take a while. They end with this process.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        resumes = name not in NOT_RESUMED
        raise SystemExit("\ninterrupted" + "; run the same command again to resume" * resumes) from None
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except EXPECTED as error:
        slip = isinstance(error, ImportError) and "pip install" not in str(error)  # of ours, not of the caller
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
    """Keeps the folder that a command writes for this process; of several that share a fit the first one does."""
    from dream_env.files import locked

    out = getattr(arguments, "folder", None) or getattr(arguments, "out", None)
    if not isinstance(out, Path) or out.suffix or int(os.environ.get("RANK", 0)):
        return nullcontext()
    return locked(out)


def main() -> None:
    """Runs the command that the first word names, or lists all of them."""
    words, names = sys.argv[1:], commands()
    if words and words[0] in names:
        sys.argv = [f"{Path(sys.argv[0]).name} {words[0]}", *words[1:]]
        command(words[0])
        return
    if words and words[0] not in ("-h", "--help"):
        old = import_module("dream_env.deprecated").COMMANDS
        if words[0] in old:
            sys.argv = [f"{Path(sys.argv[0]).name} {words[0]}", *words[1:]]
            run_old(words[0])
            return
        raise SystemExit(f"dream-env: {words[0]!r} is no command; accepted: {', '.join(names)}")
    print("dream-env COMMAND ...: learned world models of robots as Gymnasium environments\n")
    for name in names:
        print(f"  {name:22} {summary(name)}")
    print(f"\n{program('COMMAND')} --help tells the options of one.")


def run_old(name: str) -> None:
    """Runs a command under the name that it had."""
    new = import_module("dream_env.deprecated").COMMANDS[name]
    print(f"{program(name)} is called {program(new)} now; the old name goes with the next version", file=sys.stderr)
    command(new)

"""What a command may write to, go on with, and says of itself."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tyro

from dream_env.agents.run.config import check_out, check_settings, command_line, whereabouts


@dataclass(frozen=True)
class Inner:
    """Nested arguments."""

    width: int = 32
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Arguments:
    """One argument of every kind."""

    out: Path
    data: tuple[Path, ...] = ()
    rate: float = 0.1
    init: str | None = "default"
    fast: bool = True
    slow_one: bool = False
    half: bool | None = None
    model: Inner = field(default_factory=Inner)


CASES = [
    Arguments(Path("runs/a b")),
    Arguments(Path("o"), (Path("a"), Path("b")), 1e-5, None, False, True, False, Inner(8, (4,))),
    Arguments(Path("o"), half=True, init="runs/x"),
]


@pytest.mark.parametrize("arguments", CASES)
def test_a_command_line_gives_the_same_arguments(arguments):
    python, flag, module, *rest = shlex.split(command_line("train", arguments))
    assert (python, flag, module) == ("python", "-m", "agents.train")
    assert tyro.cli(Arguments, args=rest) == arguments


def test_what_has_its_default_is_left_out():
    assert command_line("fit", Arguments(Path("o"))) == "python -m agents.fit --out o"


def test_other_settings_are_named_and_the_same_are_not():
    check_settings(Path("run"), {"seed": 0, "rate": 1.0}, {"seed": 0, "rate": 1.0})
    with pytest.raises(ValueError, match="out=run holds a run with other settings: seed 0, now 1, tasks None, now 3"):
        check_settings(Path("run"), {"seed": 0, "rate": 1.0}, {"seed": 1, "rate": 1.0, "tasks": 3})


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"kind": "latent"}')
    check_out(tmp_path / "new", "vla", "default", None, tmp_path / "model")
    check_out(tmp_path / "model", "latent", "default")
    with pytest.raises(ValueError, match="file is no folder that can be written to; accepted"):
        check_out(tmp_path / "file", "vla")
    with pytest.raises(ValueError, match="holds a checkpoint of kind 'latent'; accepted: a new folder"):
        check_out(tmp_path / "model", "vla")
    with pytest.raises(ValueError, match="is what the run reads"):
        check_out(tmp_path / "model" / ".." / "model", "latent", tmp_path / "model")


def test_the_command_for_the_curves_can_be_pasted() -> None:
    *_, command = whereabouts(Path("runs/a b")).partition("curves: ")
    assert shlex.split(command) == ["tensorboard", "--logdir", "runs/a b/tensorboard"]

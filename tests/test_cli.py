"""The command line: quick help, one line for what is wrong, one meaning of a path, the old names."""

import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

import dream_env
from dream_env import progress
from dream_env.agents.run import cli
from dream_env.agents.run.cli import NOT_RESUMED, command, commands, expand_home, one_line, option_texts, parse
from dream_env.agents.run.config import command_line, program

ROOT = Path(__file__).parents[1]


def run(*words: object, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    python = [sys.executable, *map(str, words)]
    return subprocess.run(python, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def seconds(*words: str) -> float:
    """Median of five runs, after a first one that compiles."""
    times = []
    for _ in range(6):
        start = time.monotonic()
        done = run(*words)
        times.append(time.monotonic() - start)
        assert done.returncode == 0, done.stderr
    return statistics.median(times[1:])


HEAVY = {"torch", "stable_baselines3", "pybullet", "matplotlib", "scipy", "pyarrow"}


@pytest.mark.parametrize("name", commands())
def test_help_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys\nfrom dream_env.agents.run.cli import command\n"
        "try:\n    command(sys.argv[1], ['--help'])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = run("-c", code, name)
    loaded = HEAVY & {*done.stderr.split()}
    # Collecting writes parquet files, and a report knows statistics: both are quick all the same.
    assert done.returncode == 0 and loaded <= {"pyarrow", "scipy"}, loaded
    assert f"usage: {program(name)} " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", commands())
def test_help_takes_less_than_a_second(name: str) -> None:
    assert seconds("-m", f"agents.{name}", "--help") < 1.0


@pytest.mark.slow
def test_importing_the_package_takes_less_than_three_tenths_of_a_second() -> None:
    assert seconds("-c", "import dream_env") - seconds("-c", "import gymnasium") < 0.3


def test_help_texts_are_not_broken_where_the_source_is(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        parse("clone", ["--policy", "latent", "--help"])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    texts = option_texts(import_module("dream_env.agents.clone.latent_arguments").Arguments)
    long = {text for text in texts.values() if 130 < len(text) < 200}
    assert len(long) > 1 and all(any(text in line for line in lines) for text in long), "inherited options, too"


def test_help_of_fit_is_short_unless_all_is_asked_for(capsys: pytest.CaptureFixture) -> None:
    lengths = []
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            command("fit", [word])
        lengths.append(len(capsys.readouterr().out.splitlines()))
        parse("fit", ["--data", "d", "--out", "o", "--model.width", "8", "--metric-rate", "1"])
    assert lengths[0] < 110 and 2 * lengths[0] < lengths[1]


@pytest.mark.parametrize("kind", ["dynamics", "slots", "vmc"])
def test_help_of_updates_names_the_options_of_the_other_stages(kind: str) -> None:
    text = import_module(f"dream_env.agents.fit.{kind}.arguments").Arguments.__doc__
    own = re.search(r"\n +updates: (.*?)\n +\w+: ", text, re.DOTALL)
    others = re.findall(r"\n +(\w+)_updates: ", text)
    assert own and others and all(f"`--{name}-updates`" in own[1] for name in others)


@pytest.mark.parametrize("way", [("-m", "agents"), ("-m", "dream_env.agents"), ("-m", "dream_env")])
def test_all_commands_are_listed_with_a_line_each(way: tuple[str, str]) -> None:
    done = run(*way)
    assert done.returncode == 0
    listed = re.findall(r"^  (\S+) +\S.{10,}", done.stdout, re.MULTILINE)
    assert listed == [*commands()] and {"train", "studies.bench"} <= {*listed}


def test_the_console_script_dispatches() -> None:
    assert "dream-env = dream_env.agents.run.cli:main" in (ROOT / "setup.cfg").read_text()
    code = "import sys; sys.argv = ['dream-env', *sys.argv[1:]]; from dream_env.agents.run.cli import main; main()"
    assert "usage: python -m agents.report" in run("-c", code, "report", "--help").stdout
    done = run("-c", code, "trian")
    assert done.returncode == 1 and re.fullmatch(r"dream-env: 'trian' is no command; accepted: .*\n", done.stderr)


def script(folder: Path) -> Path:
    """Writes the console script as pip does: Python then searches the script's folder, not the current one."""
    file = folder / "bin" / "dream-env"
    file.parent.mkdir()
    file.write_text("from dream_env.agents.run.cli import main\nif __name__ == '__main__':\n    main()\n")
    return file


def test_the_version_is_printed(tmp_path: Path) -> None:
    done = run(script(tmp_path), "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"dream-env {dream_env.__version__}\n"), done.stderr


def test_an_environment_of_the_current_folder_is_collected(tmp_path: Path) -> None:
    (tmp_path / "mypole.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('MyPole-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=5)\n"
    )
    words = "collect --env mypole:MyPole-v0 --policy random --episodes 2 --out set --workers 2".split()
    done = run(script(tmp_path), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_names_the_form_that_works_here(tmp_path: Path) -> None:
    assert run("-m", "dream_env", "train", "--help", cwd=tmp_path).stdout.startswith("usage: dream-env train ")
    assert run("-m", "dream_env", "train", "--help").stdout.startswith("usage: python -m agents.train ")


WRONG = {
    "train --out {new} --algo foo": "invalid choice 'foo'",
    "train --out {new} --bogus 3": "Unrecognized options: --bogus",
    "train --steps 5": "missing: --out",
    "train --out {new} --init nowhere": "nowhere",
    "train --out {new} --world-model nowhere": "nowhere",
    "train --out {new} --device foo": "device='foo'",
    "train --out {new} --seed -5": "seed=-5",
    "clone --out {new} --data nowhere": "nowhere",
    "clone --out {data} --data nowhere": "nowhere",
    "fit --out {new} --data nowhere": "nowhere",
    "fit --out {new} --data nowhere --processes 99": "processes=99; accepted: 1 to",
    "evaluate --policy {file}.zip --out {new}": "--trust",
    "collect --out {new} --mix foo": "mix behavior='foo'",
    "collect --out {file} --episodes 1": "file",
    "evaluate --policy nowhere --out {new}": "nowhere",
    "evaluate --policy zero --out {new} --tasks push juggle": "tasks='juggle'",
    "evaluate --policy zero --out {new} --seed -5": "seed=-5",
    "evaluate --out {new}": "no --policy given",
    "report --page nowhere": "nowhere",
    "demo --out {data}": "holds a data set",
    "train --out ''": "--out='' is empty; accepted: a name or a path",
    "fit --data= --out {new}": "--data='' is empty",
    "evaluate --policy zero '' --out {new}": "--policy='' is empty",
    "clone --data {data} --out {new} --world_model ' '": "--world_model=' ' is empty",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_said_in_one_line(words: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "info.json").write_text("{}")
    (tmp_path / "file").touch()
    (tmp_path / "file.zip").touch()
    given = words.format(new=tmp_path / "new", data=tmp_path / "data", file=tmp_path / "file")
    name, *options = shlex.split(given)
    with pytest.raises(SystemExit) as end:
        command(name, options)
    message = str(end.value)
    assert WRONG[words] in message and "\n" not in message and len(message) < 400
    assert not (tmp_path / "new").exists()


def test_a_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAM_ENV_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        command("report", ["--page", "nowhere"])


def test_several_values_are_taken_in_any_form() -> None:
    one = parse("evaluate", ["--policy", "a", "--policy", "b", "--tasks", "push", "lift"])
    assert one == parse("evaluate", ["--policy", "a", "b", "--tasks", "push,lift"])
    assert one.policy == ("a", "b") and one.tasks == ("push", "lift")
    kinds = parse("fit", ["--data", "d", "--data=e", "--out", "o", "--kinds", "expert", "demo"])
    assert kinds.kinds == "expert,demo" and kinds.data == (Path("d"), Path("e"))


def test_an_option_that_is_empty_by_default_may_be_empty() -> None:
    assert parse("collect", ["--env-options", "", "--out", "d"]).env_options == ""


def test_a_path_means_one_place_however_it_is_given() -> None:
    home = Path.home()
    assert parse("collect", ["--out=~/data"]).out == parse("collect", ["--out", "~/data"]).out == home / "data"
    assert expand_home("label=~/p") == f"label={home}/p" and expand_home("a~/b") == "a~/b"


def test_a_card_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--policy", f"x={tmp_path}/runs/a", f"{tmp_path}/runs/b", "--out", str(tmp_path / "o")]
    line = command_line("evaluate", parse("evaluate", words))
    assert line == "dream-env evaluate --policy x=runs/a runs/b --out o"


def test_commands_that_start_over_exist() -> None:
    """So a command that is renamed does not promise to resume."""
    assert {*commands()} > NOT_RESUMED


def test_ctrl_c_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = []
    monkeypatch.setattr(signal, "signal", lambda number, action: handled.append(number))
    resumed = "\ninterrupted; run the same command again to resume"
    for name, message in (("train", resumed), ("report", "\ninterrupted")):
        with pytest.raises(SystemExit) as end, one_line(name):
            raise KeyboardInterrupt
        assert end.value.code == message
    assert handled == [signal.SIGINT] * 2, "the next one ends it at once"


@pytest.mark.parametrize("words", ["train --n-envs 8 --validation-episodes 0", "evaluate --policy zero --workers 2"])
def test_ctrl_c_in_the_middle_ends_in_one_line(words: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "agents." + words.split()[0], *words.split()[1:], "--out", str(tmp_path / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def heed_interrupts() -> None:  # which a shell tells those that it runs in the background to ignore
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        line,
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(6)
        for _ in range(4):  # workers end what they have in hand, and people press again
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
            with suppress(subprocess.TimeoutExpired):
                error = process.communicate(timeout=30)[1]
                break
    assert process.returncode == 1
    lines = [line for line in error.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("interrupted"), error


def test_bars_in_a_log_file_are_quiet(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.progress_bar(total=1000, desc="work", unit="episode") as bar:
        for _ in range(1000):
            bar.set_postfix(ok=1)
            bar.update()
    assert list(progress.progress_bar(range(3), "short")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "SECONDS", 0.02)
    with progress.progress_bar(total=10, desc="work", unit="episode") as bar:
        for _ in range(10):
            time.sleep(0.015)
            bar.set_postfix(reward=2.5)
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 7 and all(re.match(r"work: .*reward=2.5", line) for line in lines)


def test_every_command_has_arguments_and_a_main() -> None:
    assert {"train", "fit", "collect", "evaluate", "demo", "report", "studies.policies"} <= {*commands()}
    for name, path in commands().items():
        assert path.exists() and cli.summary(name), name

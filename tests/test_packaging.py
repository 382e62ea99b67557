"""What is published: sdist and wheel as the index wants them, what they require, and how little a dream needs."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS_ONLY = ("imageio", "matplotlib", "pyarrow", "pybullet", "rich", "stable_baselines3", "tensorboard", "tyro")
"""What commands and physics need, and a dream does not."""
SLIM = ("gymnasium", "numpy", "safetensors", "torch")
"""What a dream needs."""
BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run(code, missing=()):
    """Runs code in a process in which some packages cannot be imported."""
    command = [sys.executable, "-c", BLOCK.format(names=missing) + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with sdist and wheel; the wheel is built from what the sdist holds."""
    source = tmp_path_factory.mktemp("source") / "tree"
    source.mkdir()
    kept = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = kept.stdout.split("\n") if kept.returncode == 0 else []
    for name in filter(None, names or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if ".venv" not in p.parts]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (source / name).symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--no-isolation", str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return source / "dist"


@pytest.fixture(scope="module")
def metadata(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_index_takes_both(dist):
    assert sorted(path.suffix for path in dist.iterdir()) == [".gz", ".whl"]
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_sdist_has_what_its_tests_and_pages_need(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"constraints.txt", "mkdocs.yml", "CHANGELOG.md", "tests/conftest.py", "tests/toy.py", "docs/index.md"}
    assert needed - held == set()
    assert not any("__pycache__" in name for name in held)


def test_pybullet_is_required_only_where_it_has_wheels(metadata):
    (line,) = (line for line in metadata.get_all("Requires-Dist") if line.startswith("pybullet"))
    assert 'python_version < "3.12"' in line
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    stated = {line.rpartition(" ")[2] for line in metadata.get_all("Classifier") if "Python :: 3." in line}
    assert stated == {"3.10", "3.11", "3.12", "3.13"}


def test_every_extra_is_documented(metadata):
    page = (ROOT / "docs" / "install.md").read_text()
    assert [extra for extra in metadata.get_all("Provides-Extra") if f"| `{extra}` |" not in page] == []
    documented = {name for name in re.findall(r"^\| `([a-z0-9]+)` \|", page, re.MULTILINE)}
    assert documented == {*metadata.get_all("Provides-Extra")}


def test_a_dream_needs_no_command_and_no_physics():
    done = run(
        "import gymnasium as gym, dream_env\n"
        "env = gym.make('NicoLDream-v0', render_mode='rgb_array'); env.reset(seed=0)\n"
        "env.step(env.action_space.sample()); env.render()\n"
        "gym.make_vec('NicoLDream-v0', num_envs=2).reset(seed=0)\n",
        (*COMMANDS_ONLY, "tqdm", "scipy", "psutil", "tabulate", "PIL", "filelock", "huggingface_hub", "pandas"),
    )
    assert done.returncode == 0, done.stderr


def test_the_install_page_tells_what_a_dream_needs():
    page = (ROOT / "docs/install.md").read_text()
    assert f"pip install --no-deps -e . && pip install -c constraints.txt {' '.join(SLIM)}" in page
    assert "is not on PyPI yet" in page and not re.search(r"pip install [^`\n]*(?<!-e )\bdream_env\b", page)


def test_physics_without_pybullet_tells_what_to_do():
    done = run("import gymnasium as gym, dream_env\ngym.make('NicoLReal-v0')", ("pybullet",))
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: NICOL's physics") and "pip install pybullet on CPython 3.10 or 3.11" in last


def test_practice_in_dreams_needs_no_pybullet():
    modules = ("train", "fit", "collect", "clone", "evaluate", "plan", "foresee", "subsample", "synthesize", "share")
    done = run(
        "from importlib import import_module\nfrom dream_env.agents.run import cli\n"
        f"for name in {modules}: import_module(cli.modules(name, [])[1])",
        ("pybullet",),
    )
    assert done.returncode == 0, done.stderr


def test_a_command_that_plays_physics_ends_in_one_line_without_pybullet(tmp_path):
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = run(f"from dream_env.agents.run.cli import command\ncommand('fidelity', {words})", ("pybullet",))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "needs PyBullet" in done.stderr.strip().splitlines()[-1]

"""The package as a stranger gets it: a wheel, used from another directory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import dream_env

ROOT = Path(__file__).parents[1]
IDS = ("NicoLDream-v0", "NicoLReal-v0")


def run(code, cwd, path=(), timeout=60):
    """Runs Python code in another process and returns what it printed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds the installed wheel, built from a copy of the sources."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for folder in ("dream_env", "agents", "assets"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), wheel]
    subprocess.run(install, check=True, capture_output=True)
    return site


@pytest.fixture
def foreign(tmp_path):
    """A folder with the package `agents` of some other distribution."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("owner = 'somebody else'\n")
    return tmp_path


def test_wheel_holds_every_asset(site):
    skip = {".py", ".pyc"}
    files = (path for path in (ROOT / "assets").rglob("*") if path.is_file())
    assets = {str(path.relative_to(ROOT / "assets")) for path in files if path.suffix not in skip}
    held = site / "dream_env" / "assets"
    assert "nicol/nicol.urdf" in assets
    assert {asset for asset in assets if not (held / asset).is_file()} == set()


def test_wheel_holds_the_page_of_the_viewer(site):
    pages = {path.name for path in (ROOT / "agents" / "view").iterdir() if path.suffix in (".html", ".css", ".js")}
    assert (
        len(pages) == 3 and {name for name in pages if not (site / "dream_env/agents/view" / name).is_file()} == set()
    )


@pytest.mark.parametrize(("folder", "place"), [("dream_env", "."), ("agents", "agents"), ("assets", "assets")])
def test_wheel_holds_every_module(site, folder, place):
    modules = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
    assert modules and {name for name in modules if not (site / "dream_env" / place / name).is_file()} == set()


def test_wheel_installs_one_import_package(site):
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"dream_env", "bin"}
    assert [path.name for path in (site / "bin").iterdir()] == ["dream-env"]


def test_wheel_lives_beside_a_foreign_agents_package(site, foreign, tmp_path):
    code = (
        "import agents, dream_env, dream_env.agents, dream_env.assets\n"
        "from importlib.resources import files\n"
        "assert (files('dream_env.assets') / 'nicol' / 'nicol.urdf').is_file()\n"
        "print(agents.owner, *(p.__file__ for p in (dream_env, dream_env.agents)), sep='\\n')"
    )
    owner, *places = run(code, tmp_path, (site, foreign)).splitlines()
    assert owner == "somebody else"
    assert all(Path(place).is_relative_to(site) for place in places)


@pytest.mark.parametrize("env_id", IDS)
def test_wheel_makes_the_env_from_another_directory_without_an_import(site, foreign, tmp_path, env_id):
    code = (
        f"import gymnasium as gym\nenv = gym.make('dream_env:{env_id}')\n"
        "env.reset(seed=0)\nenv.step(env.action_space.sample())\n"
        "import dream_env\nprint(dream_env.__file__)"
    )
    assert Path(run(code, tmp_path, (site, foreign)).strip()).is_relative_to(site)


def test_import_is_light(tmp_path):
    code = (
        "import sys, time\nimport gymnasium\nstart = time.process_time()\nimport dream_env\n"
        "print(time.process_time() - start, {'torch', 'pybullet', 'pyarrow'} & set(sys.modules))"
    )
    seconds, heavy = run(code, tmp_path).split(maxsplit=1)
    assert heavy.strip() == "set()"
    assert float(seconds) < 0.5


@pytest.mark.parametrize("package", ["agents", "dream_env.agents"])
def test_agents_run_on_one_thread_unless_told_otherwise(package):
    code = f"import {package}, os; print(os.environ['OMP_NUM_THREADS'])"
    default = f"import os; del os.environ['OMP_NUM_THREADS']; {code}"
    chosen = f"import os; os.environ['OMP_NUM_THREADS'] = '2'; {code}"
    assert (run(default, ROOT), run(chosen, ROOT)) == ("1\n", "2\n")


@pytest.mark.parametrize("env_id", IDS)
def test_spec_survives_json(env_id):
    spec = gym.spec(env_id)
    again = EnvSpec.from_json(spec.to_json())
    assert again == spec
    assert again.max_episode_steps is None  # both worlds truncate by themselves: tasks differ in length
    assert again.vector_entry_point == spec.vector_entry_point


def test_version_stands_in_the_changelog():
    assert f"## [{dream_env.__version__}]" in (ROOT / "CHANGELOG.md").read_text()

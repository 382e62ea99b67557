"""One thread per test process: OpenMP's spinning threads slow small networks down."""

import os
import shutil
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the subprocesses of tests


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A checkpoint folder of the toy world model with its start bank, see `toy.py`."""
    import toy

    return toy.save(tmp_path_factory.mktemp("toy"))


@pytest.fixture(params=["toy", "default"])
def model(request, toy_folder):
    """The toy's folder, and the world model that the package ships."""
    return toy_folder if request.param == "toy" else "default"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four episodes, consolidated in two goes; to be read only."""
    from dataset import make_episode, write

    root = tmp_path_factory.mktemp("data") / "set"
    write(root, make_episode(0), make_episode(1, "play"))
    write(root, make_episode(2, "demo", "lift"), make_episode(2**62 + 3, "demo"))
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy of that data set to damage."""
    return Path(shutil.copytree(written, tmp_path / "set"))

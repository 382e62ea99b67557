"""One thread per test process: OpenMP's spinning threads slow small networks down."""

import os

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

"""One thread per test process: OpenMP's spinning threads slow small networks down."""

import os
import shutil
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the subprocesses of tests


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A checkpoint folder of the toy world model with initial states, see `toy.py`."""
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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoint of the toy world, and a clone that sees through it."""
    import torch
    import toy

    from dream_env.agents.nicol import vla

    root = tmp_path_factory.mktemp("folders")
    world = toy.save(root / "world")
    torch.manual_seed(0)
    vla.save(vla.VLA(vla.VLAConfig(world_model=world)), root / "clone", "A clone for tests.")
    return world, str(root / "clone")


@pytest.fixture
def args(folders, tmp_path):
    """A short run of `agents.train` in that world."""
    from dream_env.agents.train.arguments import Arguments
    from dream_env.nicol.constants import EPISODE_STEPS

    world, clone = folders
    return Arguments(
        out=tmp_path / "run",
        init=clone,
        world_model=world,
        n_envs=8,
        steps=8 * EPISODE_STEPS * 4,
        validate_every=8 * EPISODE_STEPS,
        validation_episodes=3,
        critic_warmup=0,
    )


@pytest.fixture
def session(toy_folder):
    """The viewer's session of the toy world."""
    from dream_env.agents.view.session import DreamSession, SessionConfig

    return DreamSession(SessionConfig(toy_folder, real="none"))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A model of CartPole's vectors, fitted for a moment: discrete actions, no pictures, no goal, an end."""
    import gymnasium as gym

    from dream_env.agents.data.behaviors import Job, World, record
    from dream_env.agents.fit.dynamics.command import Arguments, fit
    from dream_env.data.episodes import EpisodeDataset
    from dream_env.spec import WorldSpec

    env = gym.make("CartPole-v1")
    spec = WorldSpec.of_env(env)
    episodes = [record(World(env, spec), Job(i, "random", i, "")) for i in range(4)]
    out = tmp_path_factory.mktemp("cartpole")
    tiny = {"updates": 3, "width": 16, "members": 2, "batch": 4, "latent": 4, "threads": 1}
    fit(Arguments(data=(), out=out, **tiny), EpisodeDataset.stack(episodes, spec))
    return str(out)

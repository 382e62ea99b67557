"""Collection: behaviors, reproducible episodes, worker processes, and kills at any moment."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import toy
from dataset import equal
from stable_baselines3 import PPO

from dream_env.agents.collect import Arguments, collect, parse_mix
from dream_env.agents.data.behaviors import Job
from dream_env.agents.nicol.behaviors import BEHAVIORS, MIX, make_env, record
from dream_env.agents.nicol.vla import VLAConfig
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.agents.run import cli
from dream_env.agents.run import workers as pool
from dream_env.agents.run.trust import TRUST
from dream_env.data.episodes import EpisodeDataset as GeneralDataset
from dream_env.nicol.constants import EPISODE_STEPS, denormalize, integrate
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.nicol.episodes import Episode, EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import SimState


class FakeEnv:
    """The interface of NicoLRealEnv that collection uses, with a point for a robot."""

    goal_image = np.full((64, 64, 3), 7, np.uint8)
    instruction = "touch it"
    scene_name, world = "standard", SPEC
    episode_steps = _max_episode_steps = EPISODE_STEPS

    def __init__(self, task: str) -> None:
        """Takes the task's name."""
        self.unwrapped = self
        self.task_name = "reach" if task == "all" else task

    def reset(self, *, seed: int) -> tuple[dict, dict]:
        """Draws point and cubes."""
        self.rng = np.random.default_rng(seed)
        self.proprio = self.rng.uniform(-0.5, 0.5, 4).astype(np.float32)
        self.objects = self.rng.uniform([0.4, -0.3, 0.83], [0.6, 0, 0.84], (3, 3))
        return self.observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Moves the point."""
        assert action.shape == (4,) and action.dtype == np.float32 and np.abs(action).max() <= 1
        self.proprio = integrate(self.proprio, action)
        return self.observation(), 0.0, False, False, {}

    def observation(self) -> dict[str, np.ndarray]:
        """Shows x as brightness."""
        pixels = np.full((64, 64, 3), 100 * (self.proprio[0] + 1), np.uint8)
        return {"proprio": self.proprio.copy(), "pixels": pixels}

    def expert_action(self) -> np.ndarray:
        """Goes to the middle."""
        return np.clip(-self.proprio, -1, 1)

    def sim_state(self) -> SimState:
        """Names the second cube."""
        setpoint = denormalize(self.proprio)
        return SimState(self.objects, 1, setpoint[:3], setpoint, False)

    def truth(self) -> dict[str, Any]:
        """Holds when the point is near the middle."""
        near = bool(np.abs(self.proprio).max() < 0.3)
        hand = denormalize(self.proprio)[:3].astype(np.float32)
        objects = self.objects.astype(np.float32)
        facts = {"objects": objects, "hand": hand, "held": False, "condition": near}
        return facts | {"colors": np.array([2, 0, 1]), "target": 1}


def make_fake(task: str, policy: str | None) -> FakeEnv:
    return FakeEnv(task)


def make_slow(task: str, policy: str | None) -> FakeEnv:
    time.sleep(0.05)
    return FakeEnv(task)


def arguments(out: Path, episodes: int = 12, workers: int = 1, **kwargs: Any) -> Arguments:
    mix = "expert:2,demo:1,play:2,random:1"
    return Arguments(out=out, episodes=episodes, workers=workers, **{"mix": mix} | kwargs)


def same(a: EpisodeDataset, b: EpisodeDataset) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    root = tmp_path_factory.mktemp("reference") / "set"
    assert collect(arguments(root), make_fake) == 12
    return EpisodeDataset.load(root)


def test_one_and_two_workers_collect_the_same(reference: EpisodeDataset, tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", workers=2), make_fake)
    assert same(EpisodeDataset.load(tmp_path / "set"), reference)


def test_more_episodes_extend_the_dataset(reference: EpisodeDataset, tmp_path: Path) -> None:
    root = tmp_path / "set"
    assert collect(arguments(root, 5), make_fake) == 5
    assert collect(arguments(root), make_fake) == 12
    assert same(EpisodeDataset.load(root), reference)
    assert collect(arguments(root), make_fake) == 12
    assert collect(arguments(root, 3, seed=1), make_fake) == 15


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_collection_goes_on(workers: int, reference: EpisodeDataset, tmp_path: Path) -> None:
    root = tmp_path / "set"
    code = (
        "from test_collect import arguments, collect, make_slow, Path\n"
        f"if __name__ == '__main__': collect(arguments(Path({str(root)!r}), 12, {workers}), make_slow)"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script)], env=env, stderr=subprocess.DEVNULL)
    for _ in range(2400):
        time.sleep(0.05)
        if len(list(root.glob("staging/[!.]*.parquet"))) >= 3:
            break
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)
    saved = sorted(root.glob("staging/[!.]*.parquet"))
    assert 3 <= len(saved) < 12
    time.sleep(0.5)
    assert sorted(root.glob("staging/[!.]*.parquet")) == saved, "a worker outlived its parent"
    before = {path: path.stat().st_mtime_ns for path in saved}

    made: list[str] = []

    def make_counted(task: str, policy: str | None) -> FakeEnv:
        assert before.items() <= {p: p.stat().st_mtime_ns for p in root.glob("staging/*")}.items()
        made.append(task)
        return FakeEnv(task)

    assert collect(arguments(root), make_counted) == 12
    assert len(made) == 12 - len(saved)
    assert same(EpisodeDataset.load(root), reference)


def test_mix_is_kept_in_every_prefix(tmp_path: Path) -> None:
    jobs = arguments(tmp_path, 60, mix="expert:0.5,play:0.25,random:0.25").jobs()
    assert Counter(job.kind for job in jobs) == {"expert": 30, "play": 15, "random": 15}
    assert jobs[:20] == arguments(tmp_path, 20, mix="expert:0.5,play:0.25,random:0.25").jobs()
    assert len({job.seed for job in jobs}) == 60
    other = arguments(tmp_path, 60, task="push").jobs()
    assert not {job.seed for job in jobs} & {job.seed for job in other}


def recorded(env: FakeEnv, job: Job) -> Episode:
    return EpisodeDataset.of(GeneralDataset.stack([record(env, job)], SPEC))[0]


def episode(kind: str, seed: int = 3) -> Episode:
    return recorded(FakeEnv("reach"), Job(0, kind, seed, "reach"))


@pytest.mark.parametrize("kind", ["expert", "demo", "misjudge", "attempt", "play", "random"])
def test_behaviors(kind: str) -> None:
    one = episode(kind)
    assert equal(one, episode(kind)) and not equal(one, episode(kind, 4))
    assert np.abs(one.action).max() <= 1 and one.action.std(0).min() > 0.01
    assert np.allclose(one.label, -one.proprio[:-1])  # clean, in the recorded state
    for t in range(EPISODE_STEPS):
        assert np.allclose(one.proprio[t + 1], integrate(one.proprio[t], one.action[t]))


def test_noise_of_behaviors_differs() -> None:
    def error(kind: str) -> np.ndarray:
        episodes = [episode(kind, seed) for seed in range(40)]
        return np.array([np.abs(e.action - e.label.clip(-1, 1)).mean() for e in episodes])

    demo, expert = error("demo"), error("expert")
    assert demo.max() < 0.2
    assert expert.min() < 0.1 and expert.max() > 0.4
    steps = np.concatenate([episode("random", seed).action for seed in range(40)])
    assert np.corrcoef(steps[:-1, 0], steps[1:, 0])[0, 1] > 0.5


def test_misjudge_comes_near_and_misses() -> None:
    episodes = [episode("misjudge", seed) for seed in range(60)]
    apart = [e.hand[-1, :2] - e.objects[-1, e.target, :2] for e in episodes]
    aside = np.linalg.norm(apart, axis=1)
    assert np.median(aside) < 0.03 and (aside > 0.015).mean() > 0.2


def test_attempts_come_near_and_differ() -> None:
    episodes = [episode("attempt", seed) for seed in range(60)]
    aside = [np.linalg.norm(e.hand[:, :2] - e.objects[:, e.target, :2], axis=1).min() for e in episodes]
    assert np.median(aside) < 0.03 and np.mean(np.array(aside) > 0.02) > 0.2
    assert len({int((e.proprio[:, 3] > 0).argmax()) for e in episodes}) > 3  # hands close at different times, or never


def test_play_reaches_for_cubes() -> None:
    episodes = [episode("play", seed) for seed in range(30)]
    gaps = [np.linalg.norm(e.objects - e.hand[:, None], axis=-1).min() for e in episodes]
    assert np.median(gaps) < 0.06


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mix": "dance:1"}, "mix behavior='dance' is not known; accepted: 'expert'"),
        ({"mix": "expert:-1"}, "share '-1' of expert"),
        ({"mix": "expert:half"}, "share 'half' of expert"),
        ({"mix": "policy:1"}, "policy=None, mix='policy:1'"),
        ({"mix": "dreamt:1"}, "policy=None, mix='dreamt:1'"),
        ({"policy": "runs/x"}, r"accepted: a folder and one of \('policy', 'dreamt'\), or neither"),
        ({"episodes": -1}, "episodes=-1"),
        ({"workers": 0}, "workers=0; accepted: 1 or more"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        collect(arguments(tmp_path / "set", **kwargs), make_fake)


def test_help_tells_how_many_demonstrations_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        cli.command("collect", ["--help"])
    assert "only 15 % of its episodes are demonstrations" in " ".join(capsys.readouterr().out.split())
    assert parse_mix(MIX, BEHAVIORS)["demo"] == pytest.approx(0.15)


def test_mix_shares_sum_to_one() -> None:
    assert parse_mix("expert:1,play:3", BEHAVIORS) == {"expert": 0.25, "play": 0.75}
    assert parse_mix("demo", BEHAVIORS) == {"demo": 1.0}
    assert set(BEHAVIORS) == {"expert", "demo", "misjudge", "attempt", "play", "random", "policy", "dreamt"}


class Policy:
    """Acts as policies do."""

    def reset(self) -> None:
        """Has no memory."""

    def act(self, obs: dict, deterministic: bool) -> np.ndarray:
        """Adds noise from torch's generator."""
        assert not deterministic
        return torch.randn(1, 4).numpy() - obs["proprio"]


def test_policies_act_stochastically_but_reproducibly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_env.agents.nicol.behaviors.load_policy", lambda path: Policy())

    def act(seed: int) -> Episode:
        return recorded(FakeEnv("reach"), Job(0, "policy", seed, "reach", "somewhere"))

    assert equal(act(1), act(1))
    assert not equal(act(1), act(2))


def test_dreamt_actions_are_those_of_a_dream_that_begins_alike(
    monkeypatch: pytest.MonkeyPatch, toy_folder: str
) -> None:
    seen: list[dict] = []

    class Steady(Policy):
        """Remembers what it saw, and does not care."""

        inputs = ("embedding", "proprio")
        config = VLAConfig(encoder_id=fingerprint(toy.ToyWorldModel()))

        def act(self, obs: dict, deterministic: bool) -> np.ndarray:
            seen.append({name: part[0] for name, part in obs.items()})
            return np.full((1, 4), 0.2, np.float32)

    monkeypatch.setattr("dream_env.agents.nicol.behaviors.load_policy", lambda path: Steady())
    monkeypatch.setattr(FakeEnv, "instruction", "lift the red cube")
    episode = recorded(FakeEnv("lift"), Job(0, "dreamt", 3, "lift", "somewhere", toy_folder))
    assert len(seen) == EPISODE_STEPS and (episode.action == np.float32(0.2)).all()
    start, pictures = toy.ToyWorldModel(), torch.from_numpy(episode.images[:1])
    state = start.encode({"pixels": pictures})
    np.testing.assert_allclose(seen[0]["embedding"], start.embedding(state)[0].detach(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="its encoder .* is not the one"):
        record(FakeEnv("lift"), Job(0, "dreamt", 3, "lift", "somewhere", "default"))
    dream = NicoLDreamEnv("all", world_model=toy_folder)
    chance = int(np.random.default_rng([3, 1]).integers(2**31))
    beginning = {"image": episode.images[0], "proprio": episode.proprio[0], "goal_image": episode.goal_image}
    expected, _ = dream.reset(seed=chance, options={**beginning, "instruction": "lift the red cube"})
    for obs in seen:  # what the dream shows, whatever the camera sees meanwhile
        np.testing.assert_allclose(obs["embedding"], expected["embedding"], rtol=1e-4, atol=1e-4)
        expected, *_ = dream.step(np.full(4, 0.2, np.float32))
    jobs = Arguments(Path("set"), 4, mix="policy:1,dreamt:1", policy=toy_folder, world_model="w").jobs()
    assert Counter((job.kind, job.policy, job.world_model) for job in jobs) == {
        ("policy", toy_folder, None): 2,
        ("dreamt", toy_folder, "w"): 2,
    }


@pytest.mark.parametrize("kind, form", [("dreamt", {}), ("policy", {"goal_env": True})])
def test_a_zip_of_stable_baselines_is_recorded(
    kind: str, form: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUST, "1")
    file = str(tmp_path / "agent.zip")
    PPO("MultiInputPolicy", gym.make("NicoLDream-v0", **form), n_steps=8, batch_size=8).save(file)
    with closing(make_env("reach", file)) as env:
        episode = record(env, Job(0, kind, 0, "reach", file))
    assert episode.observation["pixels"].shape == (EPISODE_STEPS + 1, 64, 64, 3)
    make_env.cache_clear()


def square(x: int) -> int:
    if x == 13:
        raise RuntimeError("thirteen")
    return x * x


def threads(_: int) -> tuple[str, int]:
    return os.environ["OMP_NUM_THREADS"] + os.environ["DREAM_ENV_THREADS"], os.getpid()


def die(_: int) -> None:
    os._exit(9)


def test_pool_maps_in_order_or_not() -> None:
    assert list(pool.imap(square, range(8), 2, ordered=True)) == [x * x for x in range(8)]
    assert sorted(pool.imap(square, range(8), 2)) == [x * x for x in range(8)]
    assert list(pool.imap(square, range(8), 1)) == [x * x for x in range(8)]
    assert list(pool.imap(square, [], 2)) == []


def test_pool_runs_one_thread_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("DREAM_ENV_THREADS", raising=False)
    results = list(pool.imap(threads, range(6), 2))
    assert {count for count, _ in results} == {"11"}
    assert os.getpid() not in {pid for _, pid in results}
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "DREAM_ENV_THREADS" not in os.environ


def test_pool_passes_errors_on() -> None:
    with pytest.raises(RuntimeError, match="thirteen"):
        list(pool.imap(square, range(12, 15), 2))
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        list(pool.imap(die, range(2), 2))


def test_pool_names_the_extra_that_ray_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"--ray needs Ray: pip install .*\[ray\]"):
        list(pool.imap(square, range(2), "ray"))


def prepare() -> None:
    os.environ["PREPARED"] = str(1 + int(os.environ.get("PREPARED", 0)))


def here(_: int) -> tuple[str, str, str, int]:
    return os.getcwd(), os.environ["PREPARED"], os.environ["OMP_NUM_THREADS"], os.getpid()


def test_pool_runs_on_a_cluster(reference: EpisodeDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cluster of this machine alone; every other test of the pool holds without Ray."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where a worker finds this module
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert list(pool.imap(square, range(8), "ray", ordered=True)) == [x * x for x in range(8)]
        assert sorted(pool.imap(square, range(8), "ray")) == [x * x for x in range(8)]
        assert list(pool.imap(square, [], "ray")) == []
        with pytest.raises(RuntimeError, match="thirteen"):
            list(pool.imap(square, range(12, 15), "ray"))
        monkeypatch.chdir(tmp_path)
        places = set(pool.imap(here, range(9), "ray", initializer=prepare))
        assert {place[:3] for place in places} == {(str(tmp_path), "1", "1")}
        assert os.getpid() not in {place[3] for place in places}
        collect(arguments(tmp_path / "set", ray=True), make_fake)
        assert same(EpisodeDataset.load(tmp_path / "set"), reference)
    finally:
        ray.shutdown()

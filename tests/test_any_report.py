"""The report of an evaluation in a world that is not NICOL's: plot, episodes, and a GIF if the world has pictures."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from exact_cartpole import save
from gymnasium import spaces
from PIL import Image

from dream_env.agents.data.behaviors import Job, World, record
from dream_env.agents.eval import any_clips, pictures
from dream_env.agents.eval.results import Clip
from dream_env.agents.evaluate.command import Arguments, main
from dream_env.agents.fit.dynamics.command import Arguments as Fit
from dream_env.agents.fit.dynamics.command import fit
from dream_env.data.episodes import EpisodeDataset
from dream_env.spec import WorldSpec

SIDE = 16


class Dot(gym.Env):
    """A white square moves across a dark picture; it succeeds at the right edge, where the episode ends."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(4, 12)
        return self.picture(), {}

    def picture(self):
        picture = np.full((SIDE, SIDE, 3), 40, np.uint8)
        picture[6:10, max(0, int(self.place) - 2) : int(self.place) + 2] = 255
        return picture

    def step(self, action):
        self.place = float(np.clip(self.place + 3 * action[0], 0, SIDE))
        done = self.place > 15
        return self.picture(), float(done), done, False, {"is_success": done}


gym.register("DotForTests-v0", Dot, max_episode_steps=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a world model of the dot, hardly fitted."""
    out, env = tmp_path_factory.mktemp("dot"), gym.make("DotForTests-v0")
    spec = WorldSpec.of_env(env)
    episodes = [record(World(env, spec), Job(i, "random", i, "")) for i in range(8)]
    sizes = {"updates": 40, "picture_updates": 60, "width": 16, "members": 2, "batch": 4, "latent": 4, "threads": 1}
    fit(Fit(data=(), out=out, **sizes), EpisodeDataset.stack(episodes, spec))
    return str(out)


def test_a_world_with_pictures_has_the_whole_report(model, tmp_path):
    small = {"episodes": 3, "gif_episodes": 2, "workers": 1}  # as only this process knows the environment
    main(Arguments(policy=("zero", "random"), world_model=model, out=tmp_path, **small))
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"results.json", "results.md", "results.png", "episodes.jsonl", "rollouts.gif"}
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 2 * 3 and {line["seed"] for line in lines} == {100_000, 100_001, 100_002}
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    real = [line["return"] for line in lines if (line["policy"], line["world"]) == ("random", "real")]
    assert np.mean(real) == pytest.approx(rows[2]["return"])
    with Image.open(tmp_path / "rollouts.gif") as gif, Image.open(tmp_path / "results.png") as plot:
        assert gif.n_frames > 2 and plot.width > 300


def test_clips_start_alike_and_have_the_lengths_of_their_episodes(model):
    clips = any_clips.record("random", None, model, range(3))
    env = gym.make("DotForTests-v0")
    for seed, clip in enumerate(clips):
        assert np.array_equal(clip.physics[0], env.reset(seed=seed)[0])
        assert clip.physics.shape == clip.dream.shape and 2 <= len(clip.physics) <= 9
        assert clip.success == bool((clip.physics[-1][8, -1] == 255).all() and len(clip.physics) < 9)


def test_a_world_without_pictures_has_no_gif(tmp_path):
    model = save(tmp_path / "model")
    args = Arguments(policy=("random",), world_model=model, env="CartPole-v1", episodes=2, out=tmp_path / "out")
    main(replace(args, workers=1))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"results.png", "episodes.jsonl"} and "rollouts.gif" not in names


def test_large_and_wide_pictures_fit_into_their_place_in_a_gif():
    for shape in ((2, 240, 480, 3), (2, 40, 80, 3)):
        wide = np.zeros(shape, np.uint8)
        wide[:, :, -(shape[2] // 4) :] = (255, 0, 0)
        frame = np.asarray(pictures._frame([Clip("", "", True, wide, wide)], 0, 128, 1))
        red = (frame[..., 0] > 200) & (frame[..., 1:].max(-1) < 60)
        assert (np.diff(red.any(0).astype(int)) == 1).sum() == 2, "both worlds, each to its right edge"
        assert 30 <= red[:, : frame.shape[1] // 2].any(0).sum() <= 34
    assert pictures.scaled(np.zeros((300, 200, 3), np.uint8), 150).size == (100, 150)


def test_a_long_name_of_an_environment_does_not_run_into_the_next_text_of_a_gif():
    white = np.full((2, 64, 64, 3), 255, np.uint8)
    long, real = (
        np.asarray(pictures._frame([Clip("", "", True, white, white, name)], 0, 128, 1))
        for name in ("some.package.module:PushPictures-v0", "real")
    )
    np.testing.assert_array_equal(long, real)

"""LeRobot itself (0.4.4, in an environment of its own, see .ci/lerobot): data sets, training, rollouts, EnvHub."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lerobot", reason="lerobot is not installed; .ci/lerobot makes an environment with it")

import hub_server
import numpy as np
import torch
import toy
from dataset import make_episode, write
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.scripts import lerobot_eval, lerobot_train

from dream_env.adapters import lerobot as adapter
from dream_env.data.episodes import EpisodeDataset

SMALL = (
    "--policy.type=act --policy.device=cpu --policy.push_to_hub=false --policy.pretrained_backbone_weights=null "
    "--policy.chunk_size=4 --policy.n_action_steps=2 --policy.dim_model=32 --policy.n_heads=2 "
    "--policy.dim_feedforward=32 --policy.n_encoder_layers=1 --policy.use_vae=false --steps=2 --batch_size=2 "
    "--num_workers=0 --wandb.enable=false"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "set"
    write(root, make_episode(0), make_episode(1), make_episode(2, "demo", "lift"))
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A policy that `lerobot-train` made of the folder as it stands."""
    out = tmp_path_factory.mktemp("act") / "out"
    words = [f"--dataset.root={data}", "--dataset.repo_id=user/set", f"--output_dir={out}", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lerobot-train", *words])
        lerobot_train.main()
    return out / "checkpoints" / "last" / "pretrained_model"


def test_its_data_set_opens_a_collected_folder(data):
    episodes = LeRobotDataset("user/set", root=data, episodes=[1, 2], delta_timestamps={"action": [0, 0.1]})
    frame = episodes[0]
    assert frame["action"].shape == (2, 4) and frame["observation.images.pixels"].shape == (3, 64, 64)
    assert len(episodes) == 50 and frame["task"].endswith("cube")


def test_its_training_runs_on_a_collected_folder(trained):
    config = json.loads((trained / "config.json").read_text())
    assert not any("privileged" in name for name in config["input_features"])
    assert {*config["output_features"]} == {"action"}


@pytest.mark.parametrize("world", ["NicoLReal-v0", "NicoLDream-v0"])
def test_its_rollout_plays_a_policy_in_both_worlds(trained, world):
    env = adapter.make_env(2, cfg=SimpleNamespace(task=world, gym_kwargs={"task": "lift"}))[world][0]
    action = torch.nn.Parameter(torch.zeros(2, 4))
    seen = []

    class Still(torch.nn.Module):
        config = ACTConfig(device="cpu")

        def reset(self):
            seen.clear()

        def select_action(self, observation):
            seen.append(observation)
            return action.detach()

    def same(batch):
        return batch

    played = lerobot_eval.rollout(env, Still(), same, same, same, same, seeds=[0, 1])
    assert played["action"].shape == (2, 24, 4) and not played["success"].any()
    first = seen[0]
    assert first["observation.state"].shape == (2, 4) and first["observation.image"].shape == (2, 3, 64, 64)
    assert all(first["task"])
    env.close()


def test_its_envhub_makes_the_dream_of_a_repository(tmp_path):
    world = Path(toy.save(tmp_path / "world"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import toy\n"
        "from dream_env.hub.push import push_to_hub; push_to_hub(sys.argv[2], 'user/toy')\n"
        "from lerobot.envs.factory import make_env\n"
        "((suite, envs),) = make_env('user/toy', n_envs=2, trust_remote_code=True).items()\n"
        "observation, _ = envs[0].reset(seed=[0, 1])\n"
        "print(suite, observation['agent_pos'].shape, observation['pixels'].shape)\n"
    )
    with hub_server.serve() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)  # read when huggingface_hub is imported
        patch.setenv("HF_HOME", str(tmp_path / "home"))
        patch.setenv("HF_TOKEN", "hf_stand_in")
        command = [sys.executable, "-c", code, Path(__file__).parent, world]
        made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1] == "Dream-v0 (2, 4) (2, 64, 64, 3)"


def test_videos_that_it_recorded_are_read(tmp_path):
    def shown(episode, frame):
        image = np.full((48, 64, 3), (60 * episode + 20, 18 * frame, 100), np.uint8)
        image[8:24, 4 * frame : 4 * frame + 12] = (250, 250, 30)
        return image

    features = {
        "observation.images.top": {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    }
    made = LeRobotDataset.create("user/filmed", fps=10, features=features, root=tmp_path / "filmed", vcodec="h264")
    for episode, length in enumerate((7, 12, 5)):
        for frame in range(length):
            action = np.float32([episode, frame])
            made.add_frame({"observation.images.top": shown(episode, frame), "action": action, "task": "do it"})
        made.save_episode()
    made.finalize()
    data = EpisodeDataset.load(tmp_path / "filmed")
    assert data.lengths.tolist() == [6, 11, 4]
    for episode, one in enumerate(data[i] for i in range(3)):
        for frame, image in enumerate(one.observation["top"]):
            assert np.abs(image.astype(int) - shown(episode, frame)).mean() < 6, (episode, frame)

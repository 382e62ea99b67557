"""What is shared: round trips through a stand-in of the Hub, names, refusals, cards, and LeRobot's EnvHub."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import hub_server
import numpy as np
import pytest
import toy
import yaml

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

from dream_env import hub
from dream_env.agents import share
from dream_env.agents.nicol import vla
from dream_env.agents.policies import registry
from dream_env.agents.run import cli
from dream_env.agents.run.config import portable
from dream_env.data.episodes import EpisodeDataset
from dream_env.hub.names import HubName
from dream_env.hub.pull import pull
from dream_env.hub.push import push_to_hub
from dream_env.world_models import checkpoint


@pytest.fixture
def server(monkeypatch, tmp_path):
    pull.cache_clear()
    with hub_server.serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield server
    pull.cache_clear()


@pytest.fixture
def world(tmp_path):
    folder = Path(toy.save(tmp_path / "world"))
    (folder / "metrics.json").write_text(json.dumps({"error": {"predicted": 0.25}, "parameters": 7}))
    (folder / "optimizer.pt").write_bytes(b"\x80\x04.")
    return folder


def same(folder, other, besides=()):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {*besides}
    names = {name for name in names if not name.startswith("cache/")}  # what a data set decoded stays where it is
    assert names and [name for name in names if (folder / name).read_bytes() != (other / name).read_bytes()] == []


def test_a_world_model_comes_back_byte_for_byte(server, world, tmp_path):
    name = push_to_hub(world, "user/toy")
    pulled = hub.pull(name)
    same(world, pulled, besides=("README.md", "optimizer.pt"))
    uploaded = server.repos.at("models/user/toy", "main")[1]
    assert {*uploaded} == {
        "config.json", "env.py", "initial_states.npz", "metrics.json", "model.safetensors", "README.md", "spec.json"
    }  # fmt: skip
    assert not (pulled / "env.py").exists() and not (pulled / "optimizer.pt").exists()
    again = checkpoint.from_pretrained("user/toy").state_dict()
    assert all(np.array_equal(value, again[key]) for key, value in checkpoint.load(world).state_dict().items())


def test_a_policy_comes_back_byte_for_byte(server, tmp_path):
    policy = vla.VLA(vla.VLAConfig())
    registry.save(policy, tmp_path / "policy", "# A policy\n\n| success | 72 % |\n")
    push_to_hub(tmp_path / "policy", "user/policy")
    same(tmp_path / "policy", hub.pull("user/policy"), besides=("README.md",))
    assert registry.from_pretrained("user/policy").config == policy.config
    assert registry.load("hf://user/policy").config == policy.config
    assert "| success | 72 % |" in server.repos.at("models/user/policy", "main")[1]["README.md"].decode()


def test_a_data_set_comes_back_byte_for_byte(server, root):
    name = push_to_hub(root, "user/episodes")
    assert name.startswith("hf://datasets/user/episodes@")
    same(root, hub.pull(name), besides=("README.md",))
    one, other = EpisodeDataset.load(root), EpisodeDataset.from_pretrained("user/episodes")
    assert one.spec == other.spec and np.array_equal(one.observation["pixels"], other.observation["pixels"])
    assert not (hub.pull(name) / "cache").exists()  # the Hub's cache holds what the Hub has
    assert server.repos["datasets/user/episodes"]["tags"] == {"v3.0": name.rpartition("@")[2]}  # LeRobot asks for it
    push_to_hub(root, "user/episodes")
    assert server.repos["datasets/user/episodes"]["tags"]["v3.0"] != name.rpartition("@")[2]


def test_files_that_are_gone_leave_the_repository(server, root):
    server.repos.add("datasets/user/episodes", {"data/chunk-000/file-777.parquet": b"old", "notes.txt": b"kept"})
    push_to_hub(root, "user/episodes")
    files = server.repos.at("datasets/user/episodes", "main")[1]
    assert "data/chunk-000/file-777.parquet" not in files and files["notes.txt"] == b"kept"


@pytest.mark.parametrize("folder", [".world", "..", "../.world"])
def test_a_folder_is_uploaded_whatever_the_folders_above_it_are_called(server, world, monkeypatch, folder):
    push_to_hub(world, "user/toy")
    files = {*server.repos.at("models/user/toy", "main")[1]}
    hidden = world.rename(world.with_name(".world"))
    (hidden / "inside").mkdir()
    monkeypatch.chdir(hidden.parent if folder == ".world" else hidden / "inside" if folder == ".." else hidden)
    push_to_hub(folder, "user/toy")
    assert {*server.repos.at("models/user/toy", "main")[1]} == files


def test_a_revision_stays_what_it_was(server, world):
    first = push_to_hub(world, "user/toy")
    (world / "metrics.json").write_text("{}")
    second = push_to_hub(world, "user/toy")
    assert first != second
    assert json.loads((hub.pull(first) / "metrics.json").read_text())["parameters"] == 7
    assert (hub.pull("user/toy", revision=second.rpartition("@")[2]) / "metrics.json").read_text() == "{}"
    push_to_hub(world, "user/toy", revision="next")
    assert "next" in server.repos["models/user/toy"]["refs"] and hub.pull("hf://user/toy@next").is_dir()


def test_every_place_takes_the_same_name(server, world, root, tmp_path, monkeypatch):
    push_to_hub(world, "user/toy")
    push_to_hub(root, "user/episodes")
    name = "hf://user/toy@main"
    env = gym.make("dream_env:NicoLDream-v0", world_model=name)
    env.reset(seed=0)
    assert checkpoint.resolve(Path(name)) == checkpoint.resolve(name)  # pathlib folds the slashes
    args = cli.parse("evaluate", ["--policy", f"mine={name}", "--world-model", name, "--out", str(tmp_path / "out")])
    local = cli.downloaded(args)
    folder = str(hub.pull("user/toy", revision="main"))
    assert local.world_model == folder and local.policy == (f"mine={folder}",)
    data = cli.downloaded(cli.parse("fit", ["--data", "hf://user/episodes", "--out", str(tmp_path / "model")])).data
    assert data == (hub.pull("user/episodes", "dataset"),)
    commit = server.repos["models/user/toy"]["refs"]["main"]
    assert portable(folder) == f"hf://user/toy@{commit}"  # what cards tell others
    assert hub.label(folder) == "toy" and hub.label("runs/ppo") == "ppo"


def test_configs_name_the_hub_and_no_folder_of_this_machine(server, world, tmp_path):
    name = push_to_hub(world, "user/toy")
    policy = vla.VLA(vla.VLAConfig(world_model=str(checkpoint.resolve("hf://user/toy"))))
    registry.save(policy, tmp_path / "policy", "card")
    assert json.loads((tmp_path / "policy" / "config.json").read_text())["world_model"] == name


def test_a_policy_of_a_shipped_world_model_is_uploaded_as_it_is(server):
    push_to_hub(registry.resolve("unlabelled"), "user/clone")
    assert json.loads((hub.pull("user/clone") / "config.json").read_text())["world_model"] == "unlabelled"


def test_a_policy_takes_its_world_model_along_by_name(server, world, tmp_path):
    registry.save(vla.VLA(vla.VLAConfig(world_model=str(world))), tmp_path / "policy", "card")
    with pytest.raises(ValueError, match="only this machine has; accepted: upload that first"):
        push_to_hub(tmp_path / "policy", "user/policy")
    push_to_hub(tmp_path / "policy", "user/policy", world_model="hf://user/toy@v1")
    config = json.loads((hub.pull("user/policy") / "config.json").read_text())
    assert config["world_model"] == "hf://user/toy@v1"


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "policy.pkl", "agent.zip"])
def test_pickles_are_refused_and_not_downloaded(server, pickle, tmp_path):
    server.repos.add("models/user/old", {pickle: b"\x80\x04.", "config.json": b"{}"})
    with pytest.raises(ValueError, match=rf"no model.safetensors; {pickle} may run code"):
        checkpoint.load("hf://user/old")
    assert not any("resolve" in line for line in server.seen)


def test_what_is_not_there_is_told_in_a_line(server, monkeypatch):
    with pytest.raises(FileNotFoundError, match=rf"hf://user/none: there is no such model on {server.url}") as error:
        checkpoint.load("hf://user/none")
    assert "\n" not in str(error.value)
    server.repos.add("models/user/toy", {"config.json": b"{}", "model.safetensors": b""})
    with pytest.raises(FileNotFoundError, match="user/toy has no revision 'v9'"):
        checkpoint.load("hf://user/toy@v9")
    with pytest.raises(ValueError, match="is no name on the Hub; accepted: hf://user/name"):
        checkpoint.load("hf://toy")


def test_offline_the_cache_is_enough_and_what_is_not_in_it_is_told(server, world, monkeypatch):
    name = push_to_hub(world, "user/toy")
    hub.pull("user/toy")
    pull.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.warns(UserWarning, match="the copy in the cache is used"):
        folder = hub.pull("hf://user/toy")
    assert folder == hub.pull(name)  # a commit asks nobody
    with pytest.raises(FileNotFoundError, match="cannot be reached .* not in the cache") as error:
        hub.pull("user/another")
    assert "\n" not in str(error.value)


def test_without_the_library_the_remedy_is_named(monkeypatch):
    pull.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install dream_env\[hub\]"):
        checkpoint.load("hf://user/toy")


def test_the_card_has_what_the_hub_sorts_by(server, world):
    push_to_hub(world, "user/toy", license="apache-2.0")
    text = server.repos.at("models/user/toy", "main")[1]["README.md"].decode()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["library_name"], front["license"], front["pipeline_tag"]) == ("dream_env", "apache-2.0", "robotics")
    assert {"world-model", "robotics", "NicoLReal-v0"} <= {*front["tags"]}
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "error.predicted", "value": 0.25}]
    assert 'world_model="hf://user/toy"' in text


@pytest.mark.parametrize("found", ["snapshot", "elsewhere"])
def test_lerobot_makes_the_dream_from_the_repository(server, world, tmp_path, found):
    commit = push_to_hub(world, "user/toy").rpartition("@")[2]
    folder = tmp_path / "hub" / "models--user--toy" / "snapshots" / commit if found == "snapshot" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_bytes(server.repos.at("models/user/toy", "main")[1]["env.py"])
    spec = importlib.util.spec_from_file_location("hub_env_user_toy", folder / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # as LeRobot's `_import_hub_module` does
    assert module.WORLD_MODEL == "hf://user/toy" + (f"@{commit}" if found == "snapshot" else "")
    for kwargs in ({}, {"cfg": SimpleNamespace(task="lift", gym_kwargs={})}):
        ((suite, envs),) = module.make_env(n_envs=2, use_async_envs=False, **kwargs).items()
        obs, _ = envs[0].reset(seed=[0, 1])
        assert suite == "Dream-v0" and obs["pixels"].shape == (2, 64, 64, 3)
        assert all(envs[0].call("task_description")) and envs[0].call("_max_episode_steps") == (24, 24)
        envs[0].close()


def test_the_command_uploads_and_downloads(server, world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.command("share", ["--push", str(world), "--repo", "user/toy"])
    cli.command("share", ["--pull", "user/toy", "--out", "theirs"])
    assert "on the Hub: hf://user/toy@" in capsys.readouterr().out
    same(Path("theirs"), world, besides=("README.md",))
    assert not any(path.is_symlink() for path in Path("theirs").iterdir())
    with pytest.raises(SystemExit, match="out=theirs is not empty"):
        cli.command("share", ["--pull", "user/toy", "--out", "theirs"])
    with pytest.raises(SystemExit, match="accepted: --push FOLDER --repo user/name, or --pull"):
        cli.command("share", [])
    shutil.rmtree("theirs")
    (world / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SystemExit, match="damaged"):
        cli.command("share", ["--push", str(world), "--repo", "user/toy"])


def test_a_pulled_folder_can_be_pushed_again(server, world, tmp_path):
    push_to_hub(world, "user/toy")
    card = server.repos.at("models/user/toy", "main")[1]["README.md"]
    share.pull(share.Arguments(pull="user/toy", out=tmp_path / "theirs"))
    push_to_hub(tmp_path / "theirs", "user/copy")
    assert server.repos.at("models/user/copy", "main")[1]["README.md"] == card


def test_names_are_read_as_written():
    assert HubName.parse("hf://user/na.me@refs/pr/1") == HubName("user/na.me", "refs/pr/1")
    assert HubName.parse("hf://datasets/user/name") == HubName("user/name", None, "dataset")
    for name in ("hf://user/name@v1", "hf://datasets/user/name"):
        assert str(HubName.parse(name)) == name
    assert not hub.is_hub_name("runs/model") and hub.named("runs/model") == "runs/model"

"""Policies and planners find the world model that they name, from any current folder."""

import json
import shutil

import pytest
from exact_cartpole import save
from stable_baselines3 import PPO

from dream_env.agents import planners
from dream_env.agents.evaluate.command import learned_in
from dream_env.agents.planners.foresight import Foresight, ForesightConfig
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.policies import registry
from dream_env.agents.policies.sb3 import SB3Policy
from dream_env.paths import located, recorded
from dream_env.world_models import checkpoint


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with a world model and a policy that names it relative to the folder in which it was trained."""
    monkeypatch.chdir(tmp_path)
    save("runs/model")
    registry.save(SB3Policy.of(PPO("MlpPolicy", "CartPole-v1"), "native", "runs/model"), "runs/policy", "card")
    return tmp_path / "runs"


def test_a_policy_is_used_from_any_folder(runs, monkeypatch):
    assert json.loads((runs / "policy" / "config.json").read_text())["world_model"] == "../model"
    assert learned_in(["runs/policy"]) == "runs/model"
    monkeypatch.chdir(runs.parent.parent)
    assert registry.load(runs / "policy").config.world_model == str(runs / "model")
    assert learned_in([str(runs / "policy")]) == str((runs / "model").relative_to(runs.parent.parent))


def test_configs_of_earlier_versions_are_found_from_where_they_were_trained(runs):
    file = runs / "policy" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world_model": "runs/model"}))
    assert registry.load("runs/policy").config.world_model == str(runs / "model")


def test_a_world_model_that_is_gone_is_named_with_its_policy(runs):
    shutil.move(runs / "model", runs / "elsewhere")
    assert registry.load("runs/policy").config.world_model == "../model"
    with pytest.raises(FileNotFoundError, match="'../model', named by the policy 'runs/policy', does not exist; give"):
        learned_in(["runs/policy"])


def test_planners_name_their_world_model_and_policy_relative_to_their_file(runs, monkeypatch):
    Planner(PlannerConfig("runs/model", objective={"reward": 1.0})).save("runs/plan/planner.json")
    Foresight(ForesightConfig("runs/policy", "runs/model", objective={"reward": 1.0})).save("runs/plan/foresight.json")
    written = json.loads((runs / "plan" / "foresight.json").read_text())
    assert (written["policy"], written["world_model"]) == ("../policy", "../model")
    monkeypatch.chdir(runs / "plan")
    assert planners.load("planner.json").config.world_model == str(runs / "model")
    assert registry.load("foresight.json").config.policy == str(runs / "policy")
    shutil.move(runs / "model", runs / "elsewhere")
    with pytest.raises(FileNotFoundError, match="'../model', named by the policy 'planner.json', does not exist"):
        planners.load("planner.json")


def test_names_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    for name in ("default", "hf://user/name@v1", "nowhere"):
        assert recorded(name, "out", checkpoint.SHIPPED) == located(name, "out", checkpoint.SHIPPED) == name
    assert recorded("default", ".") == "./default"  # a folder inside that of the file
    assert located("./default", ".", ("default",)) == str(tmp_path / "default")

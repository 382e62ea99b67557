"""--wandb mirrors TensorBoard's curves, by a module that stands in for wandb."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from dream_env.agents.run import cli
from dream_env.agents.run.wandb_sync import ID, mirrored


@pytest.fixture
def wandb(monkeypatch):
    """A module that notes what it is called with."""
    module = ModuleType("wandb")
    module.calls = []
    finish = SimpleNamespace(finish=lambda exit_code: module.calls.append(exit_code))
    module.init = lambda **options: module.calls.append(options) or finish
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_run_is_mirrored_and_goes_on_under_the_same_id(wandb, tmp_path):
    out = tmp_path / "ppo"
    for _ in range(2):
        with mirrored(out, {"steps": 5}):
            assert wandb.calls[-1]["sync_tensorboard"] and wandb.calls[-1]["resume"] == "allow"
    first, ended, second, _ = wandb.calls
    assert first == second and ended == 0
    assert (first["name"], first["config"], first["id"]) == ("ppo", {"steps": 5}, (out / ID).read_text().strip())


def test_a_run_that_failed_is_marked(wandb, tmp_path):
    with pytest.raises(KeyboardInterrupt), mirrored(tmp_path, {}):
        raise KeyboardInterrupt
    assert wandb.calls[-1] == 1


def test_without_wandb_the_remedy_is_told_and_nothing_else_needs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with mirrored(tmp_path, {}, wanted=False):
        pass
    assert not (tmp_path / ID).exists()
    with pytest.raises(ImportError, match=r"pip install dream_env\[wandb\]"), mirrored(tmp_path, {}):
        pass


def test_training_is_mirrored(wandb, args, monkeypatch):
    from dataclasses import replace

    from dream_env.agents.train import command

    seen = []
    monkeypatch.setattr(command, "train", lambda *given: seen.append(len(wandb.calls)))
    command.main(replace(args, wandb=True, validation_episodes=0))
    assert seen == [1] and len(wandb.calls) == 2  # begun before the training, ended after it
    assert wandb.calls[0]["config"]["algo"] == "ppo"
    assert cli.parse("train", ["--out", "x", "--wandb"]).wandb

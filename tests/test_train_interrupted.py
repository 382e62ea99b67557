"""When a training saves: at Ctrl-C, and by the clock."""

import json
import signal
from dataclasses import replace

import pytest

from dream_env.agents.run.sb3_state import CHECKPOINT, load_algorithm_into
from dream_env.agents.train import command, validation
from dream_env.agents.train.arguments import Arguments
from dream_env.agents.train.command import train
from dream_env.agents.train.learners import make_env, make_model, prepare
from dream_env.agents.train.validation import Bar


@pytest.mark.parametrize("moment", ["_on_step", "_on_rollout_end"])
def test_an_interrupted_run_is_saved(folders, tmp_path, monkeypatch, moment):
    args = Arguments(tmp_path / "run", init="none", world_model=folders[0], n_envs=4, steps=4 * 64 * 3)
    args = replace(args, validation_episodes=0)

    def interrupt(bar):
        if bar.model.num_timesteps >= 4 * 64 + 4 * 8:
            signal.raise_signal(signal.SIGINT)
        return True

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Bar, moment, interrupt)
            train(args, make_env(args), None)
    finally:
        signal.signal(signal.SIGINT, before)
    model = make_model(args, prepare(args, make_env(args)))
    load_algorithm_into(model, args.out / CHECKPOINT)
    updates = 1 if moment == "_on_step" else 2  # a rollout that is complete is used first
    assert (model.num_timesteps, model._n_updates) == (4 * 64 * updates, 10 * updates)
    train(args, make_env(args), None)
    assert [entry["steps"] for entry in json.loads((args.out / "validation.json").read_text())] == [0, args.steps]


def test_a_run_is_saved_by_the_clock(folders, tmp_path, monkeypatch):
    args = Arguments(tmp_path / "run", init="none", world_model=folders[0], n_envs=4, steps=4 * 64 * 3)
    args, saved = replace(args, validation_episodes=0), []
    monkeypatch.setattr(validation, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(validation, "save_algorithm", lambda model, path: saved.append(model.num_timesteps))
    train(args, make_env(args), None)
    assert saved == [0, 256, 512, 768]


def test_a_finished_run_says_so_before_anything_is_built(folders, tmp_path, monkeypatch, capsys):
    args = Arguments(tmp_path / "run", init="none", world_model=folders[0], n_envs=4, steps=4 * 64)
    args = replace(args, validation_episodes=0)
    command.main(args)
    assert "finished: " not in capsys.readouterr().out

    def build(args):
        raise RuntimeError("built")

    monkeypatch.setattr(command, "make_env", build)
    command.main(args)
    assert f"finished: policy: {args.out}" in capsys.readouterr().out
    for unfinished in (replace(args, steps=4 * 64 * 2), replace(args, select="physics"), replace(args, seed=1)):
        with pytest.raises(RuntimeError, match="built"):
            command.main(unfinished)
    (args.out / "model.safetensors").unlink()
    with pytest.raises(RuntimeError, match="built"):
        command.main(args)

"""The arguments of `agents.fit`: what is refused before any work, and what they mean."""

import json
from dataclasses import replace

import pytest
from test_fit import arguments

from dream_env.agents.fit import kinds
from dream_env.agents.fit.state_grounded import command
from dream_env.agents.fit.state_grounded.arguments import SHARES
from dream_env.agents.run import cli
from dream_env.world_models import checkpoint


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("false_positives", 1.5, "a finite number, 0 to 1"),
        ("held_out", 1.5, "a finite number, 0 to 1"),
        ("horizons", (), "one length or more"),
        ("horizons", (2, 0), "one length or more, each of 1 step or more"),
        ("object_dynamics_horizons", (-1,), "one length or more"),
        ("minutes", -1.0, "None, a finite number"),
        ("minutes", 0.0, "None, a finite number"),
        ("minutes", float("nan"), "None, a finite number"),
        ("episodes", 0, "None, a finite number, at least 1"),
        ("episodes", -3, "None, a finite number, at least 1"),
        ("threads", 0, "None, a finite number, at least 1"),
        ("processes", 0, "a finite number, at least 1"),
        ("predictor_updates", -1, "a finite number, at least 0"),
        ("success_batch", 1, "a finite number, at least 2"),
        ("initial_states", -1, "a finite number, at least 0"),
        ("seed", -1, "a finite number, at least 0"),
        ("recolor", 4, "0, 1, 2, 3"),
        ("objective", "words", "'pixels'"),
        ("autoencoder_updates", 0, "1 or more, or with --init or --autoencoder"),
    ],
)
def test_bad_arguments_are_named(name, value, accepted, tmp_path):
    with pytest.raises(ValueError, match=f"(?s){name}=.*accepted: {accepted}"):
        arguments(tmp_path / "fit", **{name: value})


def test_an_encoder_that_is_kept_needs_no_updates(tmp_path):
    for kept in ({"init": "state_grounded"}, {"autoencoder": "state_grounded"}):
        arguments(tmp_path / "fit", autoencoder_updates=0, state_estimator_updates=0, **kept)


def test_default_is_the_checkpoint_that_comes_along(tmp_path):
    args = arguments(tmp_path / "fit", init="state_grounded", metric_updates=0)
    assert command._initial(args).config == checkpoint.load("state_grounded").config


def test_help_tells_of_the_stages(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.command("fit", ["--help"])
    assert "Give the same command again to resume" in " ".join(capsys.readouterr().out.split())


def test_minutes_go_to_the_stages_that_have_updates(tmp_path):
    args = arguments(tmp_path / "fit", minutes=10.0, metric_updates=0, autoencoder=tmp_path)
    shares = {stage: args.share(stage) for stage in SHARES}
    assert shares["metric"] is shares["autoencoder"] is None
    assert sum(share for share in shares.values() if share) == pytest.approx(10)
    without = replace(args, model=replace(args.model, arm_renderer_width=0))
    assert without.share("arm_renderer") is None
    assert sum(share for share in map(without.share, SHARES) if share) == pytest.approx(10)
    assert replace(args, minutes=None).share("predictor") is None


def test_the_data_tell_which_kind_of_world_model_fits_them(tmp_path):
    (tmp_path / "meta").mkdir()
    spec = tmp_path / "meta" / "spec.json"
    for name, kind in (("NicoLReal-v0", "state_grounded"), ("Pendulum-v1", "dynamics")):
        spec.write_text(json.dumps({"name": name}))
        assert kinds.default(["--out", "o", "--data", str(tmp_path)]) == kind
        assert kinds.default([f"--data={tmp_path}"]) == kind
    spec.write_text("{")
    assert kinds.default(["--data", str(tmp_path)]) == kinds.default([]) == "state_grounded"

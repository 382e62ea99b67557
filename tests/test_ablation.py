"""The table over choices of the world model: its rows, its figures, and that nothing runs twice."""

import json
import shlex
from dataclasses import replace

import pytest
import torch
from test_fit import toy

from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.agents.nicol.probes import fit_probe
from dream_env.agents.run.config import command_line
from dream_env.agents.studies.ablation import command as ablate
from dream_env.agents.studies.ablation import row as ablate_row
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint

SMALL = "--model.autoencoder-widths 8 8 8 --model.width 8 --model.blocks 1 --bfloat16 False --held-out 0.3 "
SMALL += "--autoencoder-batch 8 --predictor-batch 16 --success-batch 8 --state-estimator-batch 8"
QUESTIONS = {
    "loss": {"base": "", "tokens only": "--object-state-weight 0 --state-estimator-updates 0"},
    "mixture": {"two": "", "four": "--model.mixture-components 4"},
    "encoder": {"latent": "--objective latent"},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return (
        StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=8, blocks=1))
        .eval()
        .requires_grad_(False)
    )


@pytest.fixture(scope="module")
def data():
    return toy(14, steps=24)


@pytest.fixture
def args(tmp_path, monkeypatch, model, data):
    monkeypatch.setattr(ablate, "QUESTIONS", QUESTIONS)
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: data)
    monkeypatch.setattr(ablate_row.model_metrics, "steps_per_second", lambda model, batch: 1000.0)
    checkpoint.save(model, tmp_path / "model", "")
    return ablate.Arguments(
        data=(tmp_path / "data",),
        autoencoder=tmp_path / "model",
        out=tmp_path / "results",
        runs=tmp_path / "runs",
        minutes=0.001,
        encoder_minutes=0.02,
        episodes=8,
        probe_updates=2,
        questions=",".join(QUESTIONS),
        fit=SMALL,
        workers=1,
    )


def test_table_is_filled_once_and_row_by_row(args, monkeypatch):
    started, real = [], ablate.run

    def killed(job):
        started.append(job.name)
        if len(started) == 3:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(ablate, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        ablate.ablate(args)
    assert len(json.loads((args.out / "ablation.json").read_text())["runs"]) == 2
    report = ablate.ablate(args)
    assert len(started) == 5 and len(set(started)) == 4, "two that look alike are one; the killed one runs again"
    assert started[0].startswith("encoder"), "the longest first"
    assert ablate.ablate(replace(args, questions="loss"))["rows"] == report["rows"] and len(started) == 5, "all is done"

    assert [(row["question"], row["configuration"]) for row in report["rows"]] == [
        (question, name) for question, rows in QUESTIONS.items() for name in rows
    ]
    for row in report["rows"]:
        assert row["train_episodes"] == 8 and row["held_out_episodes"] == 4
        assert 0 < row["hand_24"] < 300 and 0 < row["untouched_24"] < 300 and row["latent_error_24"] > 0
        assert row["cpu_minutes"] > 0 and (row["cpu_minutes_encoder"] > 0) is (row["question"] == "encoder")
    base, four = report["rows"][0], report["rows"][3]
    assert report["rows"][2] == base | {"question": "mixture", "configuration": "two"}
    assert four["parameters"] - base["parameters"] == 3 * 2 * 5 * (128 + 1), "place, held and logit of two more"

    assert report["command"] == command_line("studies.ablation", args), "whatever command ran it"
    page = (args.out / "ablation.md").read_text()
    for row in report["rows"]:
        command = report["runs"][row["run"]]["command"]
        assert f"`{command}`" in page and row["configuration"] in page
        fitting = ablate_row.Job("", tuple(shlex.split(command)[3:]), args.runs, 2).fitting
        config, calibrated = checkpoint.load(fitting.out).config, ("success_threshold", "disagreement_threshold")
        assert config == replace(fitting.model, **{name: getattr(config, name) for name in calibrated})

    started[:] = ["", ""]
    with pytest.raises(KeyboardInterrupt):
        ablate.ablate(replace(args, probe_updates=3))
    report = json.loads((args.out / "ablation.json").read_text())
    assert report["rows"] == [] and len(report["runs"]) == 4, "measured otherwise, so not in this table"


def test_shared_rows_see_through_the_given_encoder(args, model, data):
    job = args.job("data", "--kinds play", "")
    ablate_row.share(job)
    files = {file: file.stat().st_mtime_ns for file in args.runs.iterdir()}
    assert len(files) == 2
    encode, _ = ablate_row._shared(job, job.fitting, data)
    assert {file: file.stat().st_mtime_ns for file in args.runs.iterdir()} == files, "made once"
    rows, _ = fit.split(job.fitting, data)
    assert set(data.kind[rows.numpy()]) == {"play"}
    for recolored in (0, 1):
        own = encode_episodes(model, data, rows, recolored)
        for part, expected in zip(encode(model, data, rows, recolored), own, strict=True):
            assert torch.equal(part.nan_to_num(), expected.nan_to_num())


def test_every_row_gets_the_same_compute_and_makes_a_model(tmp_path):
    args = ablate.Arguments(data=(tmp_path,), autoencoder=tmp_path)
    names = {}
    assert args.asked() == list(ablate.QUESTIONS)
    for question, rows in ablate.QUESTIONS.items():
        for name, change in rows.items():
            fitting = args.job(question, change, "").fitting
            names[question, name] = args.job(question, change, "").name
            encoder = question == "encoder"
            assert fitting.recolor == (3 if "four" in name else 0)
            assert fitting.minutes == (8 if encoder else 4) and fitting.cpu_time and fitting.threads == 1
            assert fitting.episodes == 2400 and (fitting.split_seed or 0) == 0 and fitting.metric_updates == 0
            assert (fitting.autoencoder is None) is encoder
            StateGroundedModel(fitting.model)
    bases = {name for (_, label), name in names.items() if "base" in label}
    assert len(bases) == 1 and len(set(names.values())) == 26
    assert args.job("loss", "", "other eyes").name not in bases


def test_questions_may_be_spaced(args):
    assert replace(args, questions="loss, mixture").asked() == ["loss", "mixture"]


def test_bad_arguments_are_named(args):
    with pytest.raises(ValueError, match="questions='pixels' is not known"):
        replace(args, questions="loss,pixels").asked()
    with pytest.raises(ValueError, match="minutes=0; accepted: more than 0"):
        replace(args, minutes=0).asked()


def test_false_alarms_are_those_of_a_threshold_set_elsewhere():
    chance = torch.Generator().manual_seed(0)
    truth = (torch.rand(4000, generator=chance) < 0.3).float()
    told = ablate_row.success(0.5 * truth + 0.4 * torch.rand(4000, generator=chance), truth)
    assert told == {"auc": 1.0, "false_positives": pytest.approx(0.02, abs=0.01), "recall": 1.0}
    told = ablate_row.success(torch.rand(4000, generator=chance), truth)
    assert told["false_positives"] == pytest.approx(0.02, abs=0.01) and told["recall"] < 0.05


def test_dreams_are_measured_against_what_happened(model, data):
    held_out = encode_episodes(model, data)
    probe = fit_probe(held_out, 2)
    dream = ablate_row.dream_rollout(model, held_out, 6)
    assert dream.tokens.shape[:2] == (14, 19) and dream.disagreement.shape == (14, 18)
    torch.testing.assert_close(dream.states["proprio"], held_out.proprio[:, 6:])
    figures = ablate_row.measure(model, probe, held_out)
    assert figures["latent_error_12"] == pytest.approx(1, abs=0.01), "untrained heads predict no change"
    assert figures["moved_24_sampled"] == figures["moved_24"]


def test_multiplications_are_counted():
    base = StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, blocks=1)
    one, two = (ablate_row.mmac_per_step(StateGroundedModel(replace(base, blocks=n))) for n in (1, 2))
    convolution_and_linear, modulation = 64 * (9 + 1) * 16**2, 16 * 2 * 16
    passes = (two - one) / ((convolution_and_linear + modulation) / 1e6)
    assert passes == pytest.approx(round(passes)) and passes < 2.5, "one, and at most another one for the disagreement"

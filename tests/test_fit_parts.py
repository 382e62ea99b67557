"""Parts of a fit by themselves: windows, aims, precision, thresholds."""

import signal

import numpy as np
import pytest
import torch
from test_fit import arguments, toy

from dream_env.agents.fit import trainer
from dream_env.agents.fit.state_grounded.calibrate import CERTAIN, SURE, calibrate_success
from dream_env.agents.fit.state_grounded.dynamics import Windows, fit_cube_projection, moving_windows
from dream_env.agents.fit.trainer import Run, Stage
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import encode_episodes, true_object_state
from dream_env.agents.nicol.model_metrics import success_ahead
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.state_estimator import cubes


@pytest.fixture(scope="module")
def data():
    return toy(40)


def test_windows_in_which_a_cube_moves():
    places = torch.zeros(3, 25, 4, 3)
    places[0, :, 3] = torch.nan  # a color that is not on the table
    places[1, 10:, 2, 0] = 5.0  # pushed between frames 9 and 10
    places[2, 12:14, 1, 2] = 5.0  # lifted, and put back where it was
    windows = moving_windows(places, 4)
    assert windows[windows[:, 0] == 1, 1].tolist() == [6, 7, 8, 9]
    assert windows[windows[:, 0] == 2, 1].tolist() == list(range(8, 14)) and not (windows[:, 0] == 0).any()
    n, t = Windows(places, [4], 0.5).draw(4, 400, torch.Generator().manual_seed(0))
    among = {tuple(row) for row in windows.tolist()}
    drawn = [(int(episode), int(first)) in among for episode, first in zip(n[:, 0], t[:, 0], strict=True)]
    assert all(drawn[:200]) and t.diff(dim=1).eq(1).all() and t.min() == 0 and t.max() == 24
    assert 0.1 < np.mean(drawn[200:]) < 0.25  # any: 10 of 63 move


def test_cubes_are_projected_to_where_the_attention_that_moves_about_is(tmp_path):
    data, model = toy(10), StateGroundedModel(arguments(tmp_path).model)
    some = encode_episodes(model, data)
    place = cubes(true_object_state(some)[0].flatten(0, 1))[..., :3]  # all at one height

    class Estimator:
        """Its first map rests, as on the background; the second follows the cube."""

        def attended_places(self, tokens):
            return torch.stack([torch.full_like(place, 0.9), 0.3 * place + 0.1], dim=2)[..., :2]

    fit_cube_projection(model.predictor.cube_projection, Estimator(), some)
    present = some.present.flatten(0, 1)
    assert torch.allclose(model.predictor.cube_projection(place)[present], 0.3 * place[present, :2] + 0.1, atol=1e-4)


def test_bfloat16_is_for_processors_that_have_it(monkeypatch):
    for able in ({}, {"avx512_bf16": False, "amx_bf16": False}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert not trainer.has_bfloat16("cpu") and trainer.has_bfloat16("cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert trainer.has_bfloat16("cpu")


def test_calibration_repairs_an_overconfident_head(data, tmp_path):
    model = StateGroundedModel(arguments(tmp_path / "fit").model).eval().requires_grad_(False)
    held_out = encode_episodes(model, data)
    model.success_head.logit[-1].weight.mul_(2000.0)  # random answers, given with certainty
    calibrate_success(model, held_out, data.task, 0.02)
    assert model.success_head.temperature > 2
    assert model.config.success_threshold >= CERTAIN


def test_a_threshold_stays_in_reach(data, tmp_path, monkeypatch):
    model = StateGroundedModel(arguments(tmp_path / "fit").model).eval().requires_grad_(False)
    sure, truth = torch.ones(len(data), 100), torch.ones(len(data), 1)
    truth[0] = 0.0  # the one failure is taken for a success with all certainty
    monkeypatch.setattr(model_metrics, "success_on", lambda *given: sure)
    monkeypatch.setattr(model_metrics, "success_ahead", lambda *given, **_: (torch.ones(len(data), 1), truth))
    calibrate_success(model, encode_episodes(model, data)._replace(condition=sure), data.task, 0.0)
    assert model.config.success_threshold == SURE < 1


def test_no_task_has_more_false_alarms_than_asked_for(data, tmp_path):
    torch.manual_seed(1)
    model = StateGroundedModel(arguments(tmp_path / "fit").model).eval().requires_grad_(False)
    held_out, tasks = encode_episodes(model, data), data.task
    held_out = held_out._replace(condition=torch.zeros_like(held_out.condition))  # every alarm is false
    torch.nn.init.normal_(model.success_head.logit[-1].weight, std=2.0)
    calibrate_success(model, held_out, tasks, 0.1)
    ends = [
        success_ahead(model, held_out, steps, teacher_forced=True)[0]
        for steps in {held_out.action.shape[1] // 2, held_out.action.shape[1]}
    ]
    alarms = torch.cat(ends, dim=1) > model.config.success_threshold + 1e-3  # it is rounded
    shares = [alarms[torch.from_numpy(tasks == task)].float().mean() for task in set(tasks)]
    assert max(shares) <= 0.1 and (alarms.any() or model.config.success_threshold == CERTAIN)


def test_an_interrupted_stage_is_saved_and_resumes_to_the_same_weights(tmp_path):
    def run(name, interrupt_at=0):
        torch.manual_seed(0)
        model, calls = torch.nn.Linear(2, 1), 0

        def loss(generator, progress):
            nonlocal calls
            calls += 1
            if calls == interrupt_at:
                signal.raise_signal(signal.SIGINT)  # the running update is finished first
            return model(torch.randn(8, 2, generator=generator)).square().mean()

        training = Run(model, tmp_path / name, {}, muon=False, write=lambda model, folder: None)
        training.train(Stage("stage", model, loss, updates=9, learning_rate=0.1, average=0.9))
        return model.weight, calls

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("interrupted", interrupt_at=4)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    (resumed, calls), (whole, _) = run("interrupted"), run("whole")
    assert calls == 5 and torch.equal(resumed, whole)

"""The learned metric: the pairs it learns from, its stage of the fit, and the threshold of disagreement beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_fit import arguments, toy

from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.fit.state_grounded import losses
from dream_env.agents.fit.state_grounded.calibrate import calibrate_disagreement
from dream_env.agents.fit.state_grounded.command import fit
from dream_env.agents.fit.state_grounded.hindsight import Hindsight, sim_states
from dream_env.agents.fit.state_grounded.pairs import HINDSIGHT, PICTURE, Pairs, own_steps
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.nicol.tasks import TASKS
from dream_env.nicol.world_model.metric import MetricHead
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint


@pytest.fixture(scope="module")
def data():
    return toy(12)


@pytest.fixture(autouse=True)
def no_stopwatch(monkeypatch):
    monkeypatch.setattr(model_metrics, "steps_per_second", lambda model, batch: 1000.0)


def test_pairs_tell_the_true_steps_to_their_goal():
    data = toy(12)
    for episode, cube in ((5, 0), (1, 2)):  # from frame 3 on the hand hovers over a cube
        data.hand[episode, 3:] = data.objects[episode, 3:, cube] + np.float32([0, 0, 0.11])
    hindsight, rows = Hindsight(data), torch.tensor([7, 3, 5, 1, 11, 0, 2])
    came = hindsight.conditions[rows].any(1) & ~hindsight.conditions[rows, 0]
    pairs = Pairs(data, rows, hindsight.conditions)
    drawn = pairs.draw(600, torch.Generator().manual_seed(0))
    own = drawn.goal == PICTURE
    assert came.any() and float((~own).float().mean()) == pytest.approx(HINDSIGHT, abs=0.06)
    for n, t, goal, steps in zip(*drawn, strict=True):
        episode = int(rows[n])
        cells = [(list(TASKS).index(str(data.task[episode])), int(data.target[episode]))]
        if goal != PICTURE:
            holds = hindsight.conditions[episode, goal]
            cells = [(task, cube) for task, cube in came[n].nonzero().tolist() if holds[task, cube]]
        true = [
            list(TASKS.values())[task].steps_to_go(list(sim_states(data, episode, cube))[t]) for task, cube in cells
        ]
        assert any(float(steps) == pytest.approx(one, abs=1e-5) for one in true)


def test_own_steps_are_those_of_task_and_cube(data):
    steps = own_steps(data, torch.tensor([4, 2]))
    now = list(sim_states(data, 2, int(data.target[2])))[3]
    assert steps.shape == data.condition[:2].shape
    assert float(steps[1, 3]) == pytest.approx(TASKS["reach"].steps_to_go(now), abs=1e-5)


def test_head_learns_a_distance_in_steps():
    torch.manual_seed(0)
    head, generator = MetricHead(3, 8, (32, 32)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3)

    def loss() -> torch.Tensor:
        here, there = 2 * torch.rand(2, 128, 3, generator=generator) - 1
        steps = 5 * (here - there).abs().amax(1)  # as the hand moves: all axes at once
        return losses.metric_loss(head(here), head(there), steps)

    first = float(loss().detach())
    for _ in range(200):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) < 0.3 < 1.5 < first


@pytest.mark.parametrize("bfloat16", [False, True])
def test_stage_makes_a_metric_that_can_be_measured(data, tmp_path, bfloat16):
    figures = fit(arguments(tmp_path / "fit", bfloat16=bfloat16), data)
    assert set(figures["metric"]) == {"reach"}
    assert -1 <= figures["metric"]["reach"]["spearman"] <= 1 and figures["metric"]["reach"]["error_steps"] > 0
    assert "Learned metric" in (tmp_path / "fit" / "README.md").read_text()
    model = checkpoint.load(tmp_path / "fit")
    assert model.metric(model.encode({"pixels": torch.from_numpy(np.array(data.goal_image))})).shape == (len(data), 8)


def test_a_metric_of_the_same_shape_is_trained_on_and_another_is_made_anew(data, tmp_path):
    first = arguments(tmp_path / "first")
    fit(first, data)
    only = {f"{stage}_updates": 0 for stage in ("autoencoder", "state_estimator", "predictor", "success")}
    kept = arguments(tmp_path / "kept", init=first.out, metric_rate=1e-9, average=0.0, **only)
    other = replace(kept, out=tmp_path / "other", model=replace(kept.model, metric_dim=5, metric_widths=(7, 7, 7)))
    for args in (kept, other):
        fit(args, data)
    heads = [checkpoint.load(args.out).metric_head for args in (first, kept, other)]
    torch.testing.assert_close(heads[0][0].weight, heads[1][0].weight, rtol=0, atol=1e-5)
    assert [layer.out_features for layer in heads[2] if hasattr(layer, "out_features")] == [7, 7, 7, 5]


def test_threshold_of_disagreement_is_rarely_passed(data):
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, blocks=1)).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.05)
    model.requires_grad_(False)
    episodes = encode_episodes(model, data)
    calibrate_disagreement(model, episodes)
    limit = model.config.disagreement_threshold
    assert limit is not None and limit > 0
    first = model.step(model_metrics.first(model, episodes), episodes.action[:, 0])[1].disagreement
    assert (first <= limit * 1.01).float().mean() >= QUANTILE - 1 / len(first)
    assert limit < 10 * float(first.max())


def test_mixed_states_have_the_hand_of_one_frame_and_the_cubes_of_another(data):
    rows = torch.tensor([7, 3, 5])
    pairs = Pairs(data, rows, Hindsight(data).conditions)
    drawn = pairs.mix(200, torch.Generator().manual_seed(0))
    assert float((drawn.hand == data.hand.shape[1] - 1).float().mean()) > 0.4, "often where it ends"
    assert (drawn.hand != drawn.cubes).any()
    for n, hand, cubes, steps in zip(*drawn, strict=True):
        row = int(rows[n])
        now = list(sim_states(data, row, int(data.target[row])))
        mixed = replace(now[hand], objects=now[cubes].objects)
        assert float(steps) == pytest.approx(TASKS["reach"].steps_to_go(mixed), abs=1e-5)

"""Fitting the default world model, on a toy: a white hand that pushes three squares over a plain table."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dream_env.agents.fit.state_grounded import command, joint, losses
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.calibrate import CERTAIN
from dream_env.agents.fit.state_grounded.card import card
from dream_env.agents.fit.state_grounded.command import fit, split
from dream_env.agents.nicol import model_metrics
from dream_env.agents.run.config import command_line
from dream_env.nicol import constants
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint

STEPS = 8


def pixel(position: np.ndarray) -> np.ndarray:
    low, high = constants.SETPOINT_LOW[:2], constants.SETPOINT_HIGH[:2]
    return np.round(8 + 48 * (position[:2] - low) / (high - low)).astype(int)


def paint(image: np.ndarray, position: np.ndarray, color: tuple[int, ...]) -> None:
    row, column = np.clip(pixel(position), 3, 60)
    image[row - 3 : row + 4, column - 3 : column + 4] = color


def toy(episodes: int, steps: int = STEPS) -> EpisodeDataset:
    """Episodes of which the condition is that the hand touches the named square."""
    rng = np.random.default_rng(0)
    low, high = constants.SETPOINT_LOW, constants.SETPOINT_HIGH
    frames = (episodes, steps + 1)
    data = EpisodeDataset(
        seed=np.arange(episodes),
        kind=np.resize(["expert", "play"], episodes),
        goal_image=np.zeros((episodes, 64, 64, 3), np.uint8),
        label=np.zeros((episodes, steps, 4), np.float32),
        held=np.zeros(frames, bool),
        images=np.full((*frames, 64, 64, 3), 120, np.uint8),
        proprio=np.zeros((*frames, 4), np.float32),
        action=np.zeros((episodes, steps, 4), np.float32),
        objects=np.full((*frames, 3, 3), 0.85, np.float32),
        hand=np.zeros((*frames, 3), np.float32),
        condition=np.zeros(frames, bool),
        target=rng.integers(0, 3, episodes),
        task=np.full(episodes, "reach"),
        colors=np.zeros((episodes, 3), int),
        instruction=np.empty(episodes, object),
    )
    for n in range(episodes):
        data.colors[n] = rng.permutation(len(COLORS))[:3]
        colors = np.array(list(COLORS))[data.colors[n]]
        data.instruction[n] = f"reach the {colors[data.target[n]]} cube"
        squares = low[:2] + (high - low)[:2] * rng.uniform(0.1, 0.9, (3, 2))
        proprio = rng.uniform(-1, 1, 4).astype(np.float32)
        drift = rng.uniform(-1, 1, 4)
        for t in range(steps + 1):
            hand = constants.denormalize(proprio)[:3]
            offset = squares - hand[:2]
            far = np.linalg.norm(offset, axis=1, keepdims=True) + 1e-6
            squares = np.where(far < 0.05, hand[:2] + 0.05 * offset / far, squares)
            data.objects[n, t, :, :2], data.hand[n, t], data.proprio[n, t] = squares, hand, proprio
            data.condition[n, t] = np.linalg.norm(squares[data.target[n]] - hand[:2]) < 0.08
            for square, color in zip(squares, colors, strict=True):
                paint(data.images[n, t], square, tuple(int(255 * c) for c in COLORS[color][:3]))
            paint(data.images[n, t], hand, (240, 240, 240))
            if t < steps:
                data.action[n, t] = np.clip(drift + rng.normal(0, 0.3, 4), -1, 1)
                proprio = constants.integrate(proprio, data.action[n, t])
    data.goal_image = data.images[:, -1].copy()
    return data


@pytest.fixture(scope="module")
def data():
    return toy(40)


@pytest.fixture(autouse=True)
def no_stopwatch(monkeypatch):
    monkeypatch.setattr(model_metrics, "steps_per_second", lambda model, batch: 1000.0)


def arguments(out, **values) -> Arguments:
    model = StateGroundedConfig(
        metric_dim=8,
        autoencoder_widths=(16, 16, 32),
        width=32,
        blocks=2,
        head_width=16,
        arm_renderer_width=16,
        dynamics_width=16,
    )
    small = Arguments(
        data=(out.parent / "toy",),
        out=out,
        autoencoder_updates=3,
        state_estimator_updates=3,
        arm_renderer_updates=3,
        object_dynamics_updates=3,
        predictor_updates=3,
        painter_updates=0,
        success_updates=3,
        metric_updates=3,
        autoencoder_batch=8,
        state_estimator_batch=8,
        arm_renderer_batch=16,
        object_dynamics_batch=16,
        object_dynamics_horizons=(1, 2),
        predictor_batch=16,
        success_batch=8,
        metric_batch=8,
        horizons=(1, 2),
        held_out=0.2,
        probe_updates=2,
        threads=1,
        bfloat16=False,
        model=model,
    )
    return replace(small, **values)


def test_fitted_dream_beats_a_still_picture(data, tmp_path):
    args = arguments(
        tmp_path / "fit",
        autoencoder_updates=150,
        predictor_updates=200,
        object_state_weight=0.0,  # so few updates teach no state estimator
        success_updates=100,
        autoencoder_batch=32,
        predictor_batch=128,
        success_batch=64,
        average=0.9,
    )
    figures = fit(args, data)
    errors = figures["open_loop_error"]
    assert list(errors["predicted"]) == [1, 3, 6]
    for h, error in errors["predicted"].items():
        assert error < 0.75 * errors["copied"][h], (h, error, errors["copied"][h])
    assert figures["success"]["encoded"]["auc"] > 0.6
    assert json.loads((args.out / "metrics.json").read_text())["parameters"] == figures["parameters"]
    assert 0.1 < figures["peak_memory_gib"] < 8

    model = checkpoint.load(args.out)
    page = (args.out / "README.md").read_text()
    assert "Open-loop error" in page and f"`{command_line('fit', args)}`" in page, "whatever command ran it"
    names = [f"predicted_{n}" for n in range(4, 10)]
    page = card(args, figures | {"success": figures["success"] | dict.fromkeys(names, {"auc": 1.0}), "metric": {}})
    shown = [line.split(":")[0] for line in page.split("Success head")[1].splitlines() if line.startswith("- ")]
    assert shown == [f"- {name}" for name in ["encoded", *names]], "in the same order every time"
    assert model.config.success_threshold == figures["success"]["threshold"] >= CERTAIN
    images = torch.from_numpy(data.images[:, 0])
    state = model.encode({"pixels": images})
    tokens = state["tokens"]
    assert 0.5 < float(tokens.flatten(0, 1).std(0).mean()) < 1.5, "tokens have about unit variance"
    drawn = model.decode(state)["pixels"]
    assert (drawn.float() - images.float()).square().mean() < 0.8 * images.float().var()


def test_killed_run_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    fit(arguments(tmp_path / "whole"), data)
    whole = checkpoint.load(tmp_path / "whole").state_dict()

    calls = 0
    args = arguments(tmp_path / "killed")
    for name in ("autoencoder_loss", "rollout_loss", "success_loss", "metric_loss"):  # killed once in each stage
        loss = getattr(losses, name)

        def dying(*given, _loss=loss):
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            return _loss(*given)

        calls = 0
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(losses, name, dying)
            fit(args, data, save_seconds=0.0)
    fit(args, data, save_seconds=0.0)
    killed = checkpoint.load(args.out).state_dict()
    assert [name for name, value in killed.items() if not torch.equal(whole[name], value)] == []


def test_other_settings_do_not_go_on(data, tmp_path):
    args = arguments(tmp_path / "fit", predictor_updates=0, success_updates=0, metric_updates=0)
    fit(args, data)
    with pytest.raises(ValueError, match="out=.*other settings"):
        fit(replace(args, predictor_rate=1.0), data)
    with pytest.raises(ValueError, match=f"recorded {len(data)}, now {len(data) + 1}"):
        fit(args, toy(len(data) + 1))
    with pytest.raises(ValueError, match="other settings: data_checksum"):
        fit(args, replace(data, action=data.action[::-1]))


def test_what_counts_only_in_the_end_may_change(data, tmp_path, monkeypatch):
    args = arguments(tmp_path / "fit")
    monkeypatch.setattr(losses, "metric_loss", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(args, data)
    monkeypatch.undo()
    state = torch.load(args.out / "last" / "training.pt", weights_only=True)
    state["settings"] = json.dumps(
        json.loads(state["settings"]) | {"test": "None", "initial_states": 7}
    )  # as they once were
    torch.save(state, args.out / "last" / "training.pt")
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: toy(6))
    monkeypatch.setattr(model_metrics, "steps_per_second", lambda model, batch: 1000.0)
    figures = fit(replace(args, test=tmp_path, false_positives=0.1, probe_updates=1, initial_states=0), data)
    assert figures["episodes"] == {"train": 32, "held_out": 6}


def test_a_slip_shows_before_the_stages(data, tmp_path, monkeypatch):
    args = arguments(tmp_path / "fit")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(replace(args, test=tmp_path / "nowhere"), data)
    with pytest.raises(ValueError, match=r"data=\(\); accepted: one folder or more"):
        command.main(replace(args, data=()))
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: replace(toy(4, 24), kind=np.full(4, "play")))
    with pytest.raises(ValueError, match="episodes contain no usable start"):
        command.main(args)
    assert not args.out.exists()


def test_other_results_are_not_written_over(data, tmp_path):
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "config.json").write_text('{"kind": "vla"}')
    with pytest.raises(ValueError, match="out=.* holds a checkpoint of kind 'vla'"):
        fit(arguments(tmp_path / "fit"), data)


def test_warm_start_keeps_the_embedding(data, tmp_path):
    first = arguments(tmp_path / "first")
    fit(first, data)
    second = replace(first, out=tmp_path / "second", init=first.out, autoencoder_updates=0, seed=1)
    fit(second, data)
    old, new = (checkpoint.load(args.out).state_dict() for args in (first, second))
    for name, value in new.items():
        if name.startswith("autoencoder."):
            assert torch.equal(value, old[name]), name
    assert not torch.equal(new["predictor.input.weight"], old["predictor.input.weight"])


def test_minutes_end_a_fit(data, tmp_path):
    figures = fit(arguments(tmp_path / "fit", minutes=0.05, autoencoder_updates=10**9), data)
    assert figures["episodes"] == {"train": 32, "held_out": 8}


def test_kinds_and_number_of_episodes_leave_the_held_out_ones_alone(data, tmp_path):
    args = arguments(tmp_path / "fit")
    rows, held_rows = split(args, data)
    assert sorted(torch.cat([rows, held_rows]).tolist()) == list(range(40))
    some, held = split(replace(args, kinds="play", episodes=20), data)
    assert torch.equal(held, held_rows)
    assert 0 < len(some) < 20 and set(some.tolist()) <= set(rows[:20].tolist())
    assert set(data.kind[some.numpy()]) == {"play"}
    assert len(split(replace(args, kinds="play, expert"), data)[0]) == len(rows)
    assert torch.equal(split(replace(args, seed=1, split_seed=0), data)[1], held_rows)
    with pytest.raises(ValueError, match="kinds='plays' is not known; accepted: 'expert'"):
        split(replace(args, kinds="expert,plays"), data)
    with pytest.raises(ValueError, match="kinds=demo leaves no episode"):
        split(replace(args, kinds="demo"), data)


def test_predictor_is_made_anew_and_all_else_kept(data, tmp_path):
    first = arguments(tmp_path / "first")
    fit(first, data)
    kept = {f"{stage}_updates": 0 for stage in ("autoencoder", "state_estimator", "success", "metric")}
    other = replace(first.model, width=24, blocks=1, dynamics_width=8, metric_dim=4)
    second = replace(first, out=tmp_path / "second", init=first.out, new_predictor=True, model=other, **kept)
    figures = fit(second, data)
    assert set(figures["minutes"]) == {"arm_renderer", "object_dynamics", "predictor"}
    one, two = (checkpoint.load(folder) for folder in (first.out, second.out))
    assert two.config.width == 24 and two.config.metric_dim == 8, "the metric is kept as it is"
    assert two.predictor.input.weight.shape == (24, 80) and len(two.predictor.blocks) == 1
    old, new = one.state_dict(), two.state_dict()
    same = {name for name in old if name in new and torch.equal(old[name], new[name])}
    changed = {name for name in new if name not in same and not name.startswith(("predictor.", "object_dynamics."))}
    assert changed <= {"success_head.temperature"}, "which is calibrated on the new dreams"
    with pytest.raises(ValueError, match="new_predictor=True without init; accepted: with init"):
        fit(replace(second, out=tmp_path / "third", init=None), data)


def test_autoencoder_of_another_model_is_kept(data, tmp_path):
    first = arguments(tmp_path / "first", predictor_updates=0, success_updates=0, metric_updates=0)
    fit(first, data)
    wide = replace(first.model, width=40, ensemble=2, mixture_components=3)
    figures = fit(replace(first, out=tmp_path / "second", autoencoder=first.out, model=wide, predictor_updates=3), data)
    assert set(figures["minutes"]) == {"state_estimator", "arm_renderer", "object_dynamics", "predictor"}
    old, new = (checkpoint.load(tmp_path / name).state_dict() for name in ("first", "second"))
    for name, value in new.items():
        if name.startswith("autoencoder."):
            assert torch.equal(value, old[name]), name
    assert new["predictor.input.weight"].shape == (40, 80)
    third = replace(first, out=tmp_path / "third", autoencoder=first.out)
    with pytest.raises(ValueError, match="(?s)autoencoder=.*does not fit --model.*channels"):
        fit(replace(third, model=replace(first.model, channels=8)), data)
    with pytest.raises(ValueError, match="init=.* with autoencoder=.*accepted: one of them"):
        fit(replace(third, init=first.out), data)


@pytest.mark.parametrize("objective", ["latent", "both"])
def test_pixels_reach_the_encoder_only_if_they_are_an_objective(objective, data, tmp_path, monkeypatch):
    args = arguments(tmp_path / "fit", objective=objective)
    torch.manual_seed(0)
    model = StateGroundedModel(args.model)
    stage = joint.joint_stage(args, model, data, *split(args, data))
    stage.begin()
    gradients = []
    for weight in (0.0, joint.PIXELS):
        monkeypatch.setattr(joint, "PIXELS", weight)
        model.zero_grad()
        stage.loss(torch.Generator().manual_seed(0), 0.0).backward()
        gradients.append([p.grad.clone() for p in model.autoencoder.encoder.parameters()])
        assert model.autoencoder.decoder[0].weight.grad.abs().sum() > 0 or not weight
    assert sum(float(g.abs().sum()) for g in gradients[0]) > 0, "latent prediction reaches the encoder"
    same = all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
    assert same is (objective == "latent")


def test_joint_objective_makes_a_whole_model(data, tmp_path):
    args = arguments(tmp_path / "fit", objective="latent", model=replace(arguments(tmp_path).model, channels=24))
    figures = fit(args, data)
    assert set(figures["minutes"]) == {
        "joint",
        "state_estimator",
        "arm_renderer",
        "object_dynamics",
        "predictor",
        "success",
        "metric",
    }
    assert checkpoint.load(args.out).embedding_dim == 24 * 64


def test_too_few_episodes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds 1 episodes; accepted: at least 2"):
        fit(arguments(tmp_path / "fit"), toy(1))
    with pytest.raises(ValueError, match="held_out=0.9 leaves none of 2 episodes to train on; accepted: less"):
        split(arguments(tmp_path / "fit", held_out=0.9), toy(2))

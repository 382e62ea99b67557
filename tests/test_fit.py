"""Fitting the default world model, on a toy: a white hand that pushes three squares over a plain table."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dream_env import contract
from dream_env.agents import fit as fit_module
from dream_env.agents import fit_losses, model_metrics
from dream_env.agents.fit import Arguments, fit
from dream_env.agents.latents import encode_episodes
from dream_env.language import COLORS
from dream_env.world_models import checkpoint
from dream_env.world_models.latent import LatentConfig, LatentWorldModel

STEPS = 8


def pixel(position: np.ndarray) -> np.ndarray:
    low, high = contract.SETPOINT_LOW[:2], contract.SETPOINT_HIGH[:2]
    return np.round(8 + 48 * (position[:2] - low) / (high - low)).astype(int)


def paint(image: np.ndarray, position: np.ndarray, color: tuple[int, ...]) -> None:
    row, column = np.clip(pixel(position), 3, 60)
    image[row - 3 : row + 4, column - 3 : column + 4] = color


def toy(episodes: int) -> SimpleNamespace:
    """Episodes in the form of `EpisodeDataset`; the condition is that the hand touches the named square."""
    rng = np.random.default_rng(0)
    low, high = contract.SETPOINT_LOW, contract.SETPOINT_HIGH
    frames = (episodes, STEPS + 1)
    data = SimpleNamespace(
        images=np.full((*frames, 64, 64, 3), 120, np.uint8),
        proprio=np.zeros((*frames, 4), np.float32),
        action=np.zeros((episodes, STEPS, 4), np.float32),
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
        for t in range(STEPS + 1):
            hand = contract.denormalize(proprio)[:3]
            offset = squares - hand[:2]
            far = np.linalg.norm(offset, axis=1, keepdims=True) + 1e-6
            squares = np.where(far < 0.05, hand[:2] + 0.05 * offset / far, squares)
            data.objects[n, t, :, :2], data.hand[n, t], data.proprio[n, t] = squares, hand, proprio
            data.condition[n, t] = np.linalg.norm(squares[data.target[n]] - hand[:2]) < 0.08
            for square, color in zip(squares, colors, strict=True):
                paint(data.images[n, t], square, tuple(int(255 * c) for c in COLORS[color][:3]))
            paint(data.images[n, t], hand, (240, 240, 240))
            if t < STEPS:
                data.action[n, t] = np.clip(drift + rng.normal(0, 0.3, 4), -1, 1)
                proprio = contract.integrate(proprio, data.action[n, t])
    data.goal_image = data.images[:, -1].copy()
    return data


@pytest.fixture(scope="module")
def data():
    return toy(40)


@pytest.fixture(autouse=True)
def no_stopwatch(monkeypatch):
    monkeypatch.setattr(model_metrics, "steps_per_second", lambda model, batch: 1000.0)


def arguments(out, **values) -> Arguments:
    model = LatentConfig(autoencoder_widths=(16, 16, 32), width=32, blocks=2, head_width=16)
    small = Arguments(
        data=out.parent / "toy",
        out=out,
        autoencoder_updates=3,
        predictor_updates=3,
        success_updates=3,
        autoencoder_batch=8,
        predictor_batch=16,
        success_batch=8,
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

    model = checkpoint.load(args.out)
    assert "Open-loop error" in (args.out / "README.md").read_text()
    assert model.config.success_threshold == figures["success"]["threshold"] >= 0.5
    images = torch.from_numpy(data.images[:, 0])
    tokens = model.encode(images, torch.zeros(len(images), 4)).tokens
    assert 0.5 < float(tokens.flatten(0, 1).std(0).mean()) < 1.5, "tokens have about unit variance"
    drawn = model.decode(model.encode(images, torch.zeros(len(images), 4)))
    assert (drawn.float() - images.float()).square().mean() < 0.8 * images.float().var()


def test_killed_run_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    fit(arguments(tmp_path / "whole"), data)
    whole = checkpoint.load(tmp_path / "whole").state_dict()

    calls = 0
    args = arguments(tmp_path / "killed")
    for name in ("autoencoder_loss", "rollout_loss", "success_loss"):  # killed once in each stage
        loss = getattr(fit_losses, name)

        def dying(*given, _loss=loss):
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            return _loss(*given)

        calls = 0
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(fit_losses, name, dying)
            fit(args, data, save_seconds=0.0)
    fit(args, data, save_seconds=0.0)
    killed = checkpoint.load(args.out).state_dict()
    assert [name for name, value in killed.items() if not torch.equal(whole[name], value)] == []


def test_other_settings_do_not_go_on(data, tmp_path):
    args = arguments(tmp_path / "fit", predictor_updates=0, success_updates=0)
    fit(args, data)
    with pytest.raises(ValueError, match="out=.*other settings"):
        fit(replace(args, predictor_rate=1.0), data)


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


def test_one_episode_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="holds 1 episodes; accepted: at least 2"):
        fit(arguments(tmp_path / "fit"), toy(1))


def test_autoencoder_loss_weights_what_differs_from_the_background():
    autoencoder = LatentWorldModel(LatentConfig(autoencoder_widths=(8, 8, 8))).autoencoder.requires_grad_(False)
    autoencoder.decoder[-1].weight.zero_()  # it draws the background
    autoencoder.decoder[-1].bias.zero_()
    images = torch.full((4, 64, 64, 3), 128, dtype=torch.uint8)
    images[:, 20:23, 20:23] = 255

    def loss(weight):
        return float(fit_losses.autoencoder_loss(autoencoder, images, torch.Generator(), weight, 0.0))

    assert loss(16.0) > 10 * loss(1.0)


def test_rollout_loss_is_zero_where_nothing_moves():
    predictor = LatentWorldModel(LatentConfig(width=16, blocks=1)).predictor.requires_grad_(False)
    tokens = torch.randn(5, 1, 64, 16)
    still = tokens.expand(-1, 4, -1, -1)
    rest = (torch.zeros(5, 4, 4), torch.zeros(5, 3, 4), torch.Generator())
    assert float(fit_losses.rollout_loss(predictor, still, *rest, 0.0)) < 1e-10
    moving = still * torch.tensor([1.0, 1.0, 1.0, 2.0]).view(1, 4, 1, 1)
    assert float(fit_losses.rollout_loss(predictor, moving, *rest, 0.0)) > 0.1


def test_auc():
    truth = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert model_metrics.auc(torch.tensor([0.1, 0.2, 0.3, 0.4]), truth) == 1.0
    assert model_metrics.auc(torch.tensor([0.4, 0.3, 0.2, 0.1]), truth) == 0.0
    assert model_metrics.auc(torch.tensor([0.1, 0.3, 0.2, 0.4]), truth) == 0.75
    assert np.isnan(model_metrics.auc(torch.ones(4), torch.ones(4)))


def test_rollout_errors_of_perfect_and_of_still_dreams():
    tokens = torch.randn(50, 4, 8, 2)
    errors = model_metrics.rollout_errors(tokens, tokens, horizons=(1, 3, 6))
    assert errors["predicted"] == {1: 0.0, 3: 0.0}
    assert errors["copied"][3] == pytest.approx(2.0, rel=0.2)


def test_probe_finds_the_named_square():
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(0, 64, (300, 5), generator=generator)
    tokens = torch.nn.functional.one_hot(place, 64).float().unsqueeze(-1).expand(-1, -1, -1, 4)
    position = torch.stack([place // 8, place % 8], dim=-1).float()
    words = torch.zeros(300, 64)
    probe = model_metrics.fit_probe(5 * tokens, words, position, updates=100)
    error = model_metrics.probe_error(probe, 5 * tokens[:, 0], words, position[:, 0])
    assert error < 2, "guessing the middle is 3.2 off"


def test_calibration_repairs_an_overconfident_head(data, tmp_path):
    model = LatentWorldModel(arguments(tmp_path / "fit").model).eval().requires_grad_(False)
    held_out = encode_episodes(model, data)
    model.success_head.logit[-1].weight.mul_(2000.0)  # random answers, given with certainty
    fit_module.calibrate(model, held_out, 0.02)
    assert model.success_head.temperature > 2
    assert 0.5 <= model.config.success_threshold <= 1

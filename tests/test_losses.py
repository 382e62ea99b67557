"""What the stages of `agents.fit` minimize, and what a world model is measured by."""

import numpy as np
import pytest
import torch

from dream_env.agents.eval import model_metrics
from dream_env.agents.eval.statistics import auc
from dream_env.agents.fit import joint, losses
from dream_env.agents.fit.muon import optimizers
from dream_env.nicol import constants
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import ObjectDynamics


def test_spread_punishes_collapse_and_repetition():
    tokens = 1.5 * torch.randn(400, 4, 3, generator=torch.Generator().manual_seed(0))
    variance, covariance = joint.spread(tokens)
    assert variance < 0.01 and covariance < 0.05
    assert joint.spread(tokens[:1].expand(50, -1, -1))[0] > 0.95, "all pictures alike"
    assert joint.spread(tokens[..., :1].expand(-1, -1, 3))[1] > 5, "all channels alike"


def test_autoencoder_loss_weights_what_differs_from_the_background():
    autoencoder = StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8))).autoencoder.requires_grad_(
        False
    )
    autoencoder.decoder[-1].weight.zero_()  # it draws the background
    autoencoder.decoder[-1].bias.zero_()
    images = torch.full((4, 64, 64, 3), 128, dtype=torch.uint8)
    images[:, 20:23, 20:23] = 255

    def loss(weight):
        return float(losses.autoencoder_loss(autoencoder, images, torch.Generator(), weight, 0.0))

    assert loss(16.0) > 10 * loss(1.0)


def test_autoencoder_loss_asks_a_reader_where_things_are():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8))).eval()
    images = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    read = model.reader(model.autoencoder.encode(images)).detach()
    rest = (model.autoencoder, images, torch.Generator(), 1.0, 0.0)
    drawn = losses.autoencoder_loss(*rest)
    right = losses.autoencoder_loss(*rest, 2.0, model.reader, read, torch.ones_like(read).bool())
    wrong = losses.autoencoder_loss(*rest, 2.0, model.reader, read + 1, torch.ones_like(read).bool())
    torch.testing.assert_close(right, drawn)
    torch.testing.assert_close(wrong - drawn, 2.0 * losses.reading_loss(read, read + 1, torch.ones_like(read)))
    wrong.backward()
    assert model.reader.look.weight.grad.abs().max() > 0 and model.autoencoder.encoder[0].weight.grad.abs().max() > 0


def test_an_ensemble_counts_windows_as_it_is_told():
    torch.manual_seed(0)
    interaction = ObjectDynamics(8, ensemble=2)
    readings, truth = torch.zeros(3, 24), torch.zeros(3, 3, 24)
    truth[0] = 1.0  # the first window alone is in error
    rest = (readings, torch.zeros(3, 3, 4), truth, torch.ones(3, 3, 24).bool())
    share = torch.tensor([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0]])
    alike, told = losses.interaction_loss(interaction, *rest), losses.interaction_loss(interaction, *rest, share)
    torch.testing.assert_close(told, alike)  # 0 and 2 make as much as 1 and 1
    told.backward()
    gradient = interaction.move.biases[-1].grad
    assert gradient[0].abs().max() == 0 < gradient[1].abs().max()


def test_a_sketch_learns_what_follows_from_its_numbers():
    torch.manual_seed(0)
    sketch = ArmRenderer(channels=2, tokens=4, numbers=4, width=32)
    trained = optimizers(sketch, 1e-2)
    for _ in range(300):
        told = 2 * torch.rand(64, 2, 4) - 1
        arm = torch.sin(3 * told[..., :2]).repeat(1, 1, 4).unflatten(2, (4, 2))
        loss = losses.sketch_loss(sketch, arm, told)
        sketch.zero_grad()
        loss.backward()
        for each in trained:
            each.step()
    assert loss.item() < 0.03 < float(arm.var()) / 10


def test_rollout_loss_is_zero_where_nothing_moves():
    predictor = StateGroundedModel(StateGroundedConfig(width=16, blocks=1)).predictor.requires_grad_(False)
    tokens = torch.randn(5, 1, 64, 16)
    still = tokens.expand(-1, 4, -1, -1)
    rest = (torch.zeros(5, 4, 4), torch.zeros(5, 3, 4), torch.Generator())
    assert float(losses.rollout_loss(predictor, still, *rest, 0.0)) < 1e-10
    moving = still * torch.tensor([1.0, 1.0, 1.0, 2.0]).view(1, 4, 1, 1)
    assert float(losses.rollout_loss(predictor, moving, *rest, 0.0)) > 0.1


def test_readings_count_by_their_weight():
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, metric_dim=8)).requires_grad_(False)
    tokens, zeros = torch.randn(5, 3, 64, 16), torch.zeros(5, 3, 4)
    readings, known = torch.full((5, 3, 24), 9.0), torch.ones(5, 3, 24, dtype=torch.bool)

    def loss(weight):
        chance = torch.Generator().manual_seed(0)
        given = (model.predictor, tokens, zeros, zeros[:, :2], chance, 0.0, weight, model.reader, readings, known)
        return float(losses.rollout_loss(*given))

    assert loss(0.0) < loss(1.0) < loss(2.0)
    assert loss(2.0) - loss(1.0) == pytest.approx(loss(1.0) - loss(0.0), rel=1e-3)


def test_learned_setpoint_comes_to_move_as_the_controller_does():
    torch.manual_seed(0)
    predictor = StateGroundedModel(
        StateGroundedConfig(grid=1, channels=4, width=32, blocks=1, proprio="learned")
    ).predictor
    optimizer, chance = torch.optim.Adam(predictor.parameters(), 1e-2), torch.Generator().manual_seed(0)
    tokens = torch.zeros(64, 3, 1, 4)

    def error():
        action, start = 2 * torch.rand(64, 2, 4, generator=chance) - 1, torch.rand(64, 4, generator=chance) - 0.5
        step = torch.from_numpy(constants.STEP)
        first = constants.integrate(start, action[:, 0], step)
        proprio = torch.stack([start, first, constants.integrate(first, action[:, 1], step)], dim=1)
        moved = predictor(tokens[:, 0], start, action[:, 0])[1].detach()
        return losses.rollout_loss(predictor, tokens, proprio, action, chance, 0.0), (moved - first).abs().mean()

    before = float(error()[1])
    for _ in range(100):
        optimizer.zero_grad()
        error()[0].backward()
        optimizer.step()
    assert float(error()[1]) < 0.25 * before


def test_auc():
    truth = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert auc(torch.tensor([0.1, 0.2, 0.3, 0.4]), truth) == 1.0
    assert auc(torch.tensor([0.4, 0.3, 0.2, 0.1]), truth) == 0.0
    assert auc(torch.tensor([0.1, 0.3, 0.2, 0.4]), truth) == 0.75
    assert np.isnan(auc(torch.ones(4), torch.ones(4)))


def test_rollout_errors_of_perfect_and_of_still_dreams():
    tokens = torch.randn(50, 4, 8, 2)
    errors = model_metrics.rollout_errors(tokens, tokens, horizons=(1, 3, 6))
    assert errors["predicted"] == {1: 0.0, 3: 0.0}
    assert errors["copied"][3] == pytest.approx(2.0, rel=0.2)

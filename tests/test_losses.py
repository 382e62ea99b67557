"""What the stages of `agents.fit` minimize, and what a world model is measured by."""

import numpy as np
import pytest
import torch

from dream_env.agents.eval.statistics import auc
from dream_env.agents.fit.muon import optimizers
from dream_env.agents.fit.state_grounded import joint, losses
from dream_env.agents.nicol import model_metrics
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


def test_autoencoder_loss_asks_where_things_are():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8))).eval()
    images = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    read = model.state_estimator(model.autoencoder.encode(images)).detach()
    rest = (model.autoencoder, images, torch.Generator(), 1.0, 0.0)
    drawn = losses.autoencoder_loss(*rest)
    right = losses.autoencoder_loss(*rest, 2.0, model.state_estimator, read, torch.ones_like(read).bool())
    wrong = losses.autoencoder_loss(*rest, 2.0, model.state_estimator, read + 1, torch.ones_like(read).bool())
    torch.testing.assert_close(right, drawn)
    torch.testing.assert_close(wrong - drawn, 2.0 * losses.object_state_loss(read, read + 1, torch.ones_like(read)))
    wrong.backward()
    assert (
        model.state_estimator.attention.weight.grad.abs().max() > 0
        and model.autoencoder.encoder[0].weight.grad.abs().max() > 0
    )


def test_an_ensemble_counts_windows_as_it_is_told():
    torch.manual_seed(0)
    object_dynamics = ObjectDynamics(8, ensemble=2)
    states, truth = torch.zeros(3, 24), torch.zeros(3, 3, 24)
    truth[0] = 1.0  # the first window alone is in error
    rest = (states, torch.zeros(3, 3, 4), truth, torch.ones(3, 3, 24).bool())
    share = torch.tensor([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0]])
    alike, told = (
        losses.object_dynamics_loss(object_dynamics, *rest),
        losses.object_dynamics_loss(object_dynamics, *rest, share),
    )
    torch.testing.assert_close(told, alike)  # 0 and 2 make as much as 1 and 1
    told.backward()
    gradient = object_dynamics.cube_dynamics.biases[-1].grad
    assert gradient[0].abs().max() == 0 < gradient[1].abs().max()


def test_an_arm_renderer_learns_what_follows_from_its_numbers():
    torch.manual_seed(0)
    renderer = ArmRenderer(channels=2, tokens=4, numbers=4, width=32)
    trained = optimizers(renderer, 1e-2)
    for _ in range(300):
        told = 2 * torch.rand(64, 2, 4) - 1
        arm = torch.sin(3 * told[..., :2]).repeat(1, 1, 4).unflatten(2, (4, 2))
        loss = losses.arm_renderer_loss(renderer, arm, told)
        renderer.zero_grad()
        loss.backward()
        for each in trained:
            each.step()
    assert loss.item() < 0.03 < float(arm.var()) / 10


def test_rollout_loss_is_zero_where_nothing_moves():
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1)).requires_grad_(False)
    tokens = torch.randn(5, 1, 64, 16)
    still = tokens.expand(-1, 4, -1, -1)
    rest = (torch.zeros(5, 4, 4), torch.zeros(5, 3, 4), torch.Generator())
    assert float(losses.rollout_loss(model, still, *rest, 0.0)) < 1e-10
    moving = still * torch.tensor([1.0, 1.0, 1.0, 2.0]).view(1, 4, 1, 1)
    assert float(losses.rollout_loss(model, moving, *rest, 0.0)) > 0.1


def test_object_states_count_by_their_weight():
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, metric_dim=8)).requires_grad_(False)
    tokens, zeros = torch.randn(5, 3, 64, 16), torch.zeros(5, 3, 4)
    truth, known = torch.full((5, 3, 24), 9.0), torch.ones(5, 3, 24, dtype=torch.bool)

    def loss(weight):
        chance = torch.Generator().manual_seed(0)
        given = (model, tokens, zeros, zeros[:, :2], chance, 0.0, weight, truth, known)
        return float(losses.rollout_loss(*given))

    assert loss(0.0) < loss(1.0) < loss(2.0)
    assert loss(2.0) - loss(1.0) == pytest.approx(loss(1.0) - loss(0.0), rel=1e-3)


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

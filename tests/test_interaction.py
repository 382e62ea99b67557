"""What the hand does to the cubes, in numbers, and where they are marked on the map."""

import pytest
import torch

from dream_env.agents.fit import losses
from dream_env.agents.fit.muon import optimizers
from dream_env.language import COLORS
from dream_env.world_models.interaction import Ensemble, Interaction, cubes, mark
from dream_env.world_models.latent import LatentConfig, LatentWorldModel
from dream_env.world_models.protocol import LatentState
from dream_env.world_models.reader import HAND, READINGS, SituationReader
from dream_env.world_models.sketch import Camera

AXIS = torch.linspace(-1, 1, 8)


def table(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Draws readings `(batch, R)` of a hand and of cubes about it, all present."""
    readings = torch.rand(batch, len(READINGS), generator=generator) * 2 - 1
    cubes(readings)[..., 4] = 1.0
    return readings


def test_what_nothing_taught_to_move_stays():
    readings = table(5, torch.Generator().manual_seed(0))
    interaction = Interaction(16, ensemble=3)
    assert interaction(readings, torch.zeros(5, 4), torch.ones(5, 4)).equal(readings.expand(3, -1, -1))


def test_networks_are_computed_side_by_side_and_each_goes_its_own_way():
    torch.manual_seed(0)
    networks = Ensemble(3, 5, 8, 2)
    for weight in networks.weights:
        torch.nn.init.normal_(weight)
    inputs = torch.randn(3, 7, 5)
    for k in range(3):
        hidden = torch.nn.functional.silu(inputs[k] @ networks.weights[0][k] + networks.biases[0][k])
        torch.testing.assert_close(networks(inputs)[k], hidden @ networks.weights[1][k] + networks.biases[1][k])
    torch.testing.assert_close(networks(inputs[1]), networks(inputs[1].expand(3, -1, -1)))
    interaction, readings = Interaction(16, ensemble=3), table(5, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(interaction.move.weights[-1])
    setpoints = torch.zeros(5, 4), torch.ones(5, 4)
    once = interaction(readings, *setpoints)
    twice = interaction(once, *setpoints)
    assert once.shape == twice.shape == (3, *readings.shape) and once.var(0).max() > 1e-4
    torch.testing.assert_close(twice[1], interaction(once[1], *setpoints)[1])


def test_doubt_is_where_the_networks_differ_and_luck_follows_one_of_them():
    torch.manual_seed(0)
    model = LatentWorldModel(LatentConfig(width=16, blocks=1, interaction=16)).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.1)
    moves = model.predictor.interaction.move
    images = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    state, action = model.encode(images, torch.zeros(4, 4)), torch.zeros(4, 4)
    told = model.disagreement(state, action)
    moves.biases[-1].data[:, 0, 0] = torch.tensor([0.0, 1.0, 2.0])
    apart = len(COLORS) * 0.1**2 * 2 / 3 / len(READINGS)
    torch.testing.assert_close(model.disagreement(state, action) - told, torch.full((4,), apart))
    start = cubes(state.situation)[..., 0]
    moved = cubes(model.step(state, action).situation)[..., 0] - start
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), msg="the mean")
    luck = torch.tensor([0.0, 0.4, 0.9, 0.99])
    lucky = model.step(state, action, luck)
    torch.testing.assert_close(
        cubes(lucky.situation)[..., 0] - start, 0.1 * torch.tensor([0.0, 1, 2, 2])[:, None].expand(-1, len(COLORS))
    )
    halfway = cubes(model.step(state, action, luck, 0.5).situation)[..., 0] - start
    torch.testing.assert_close(halfway[0], torch.full_like(halfway[0], 0.05))


def test_the_kept_situation_is_judged_and_the_tokens_where_none_is_kept():
    torch.manual_seed(0)
    model = LatentWorldModel(LatentConfig(width=16, blocks=1, interaction=16)).eval()
    images = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    state, words = model.encode(images, torch.zeros(3, 4)), torch.randn(3, 64)
    bare, goal = LatentState(state.tokens, state.proprio), model.embedding(state)
    for one, other in zip(model.judge(state, goal, words), model.judge(bare, goal, words), strict=True):
        assert one.equal(other), "just read"
    later = state._replace(situation=state.situation + 1)
    for one, other in zip(model.judge(later, goal, words), model.judge(bare, goal, words), strict=True):
        assert not one.allclose(other)
    assert model.success(later, goal, words).equal(model.judge(later, goal, words)[1])


def test_it_learns_a_push_of_any_cube_over_many_steps():
    """In this world the hand is at its set-point, and takes along what is within 10 cm of it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    interaction = Interaction(64)

    def world(batch: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        readings, frames = table(batch, generator), []
        velocity = torch.rand(batch, 1, 3, generator=generator) * 0.2 - 0.1
        proprio = torch.rand(batch, 4, generator=generator) - 0.5
        setpoints = []
        for _ in range(steps + 1):
            readings = readings.clone()
            hand = proprio[:, :3] * interaction.slope + interaction.middle
            readings[:, :4] = torch.cat([hand - interaction.above, proprio[:, 3:]], dim=1)
            frames.append(readings)
            setpoints.append(proprio)
            near = (cubes(readings)[..., :3] - hand[:, None]).norm(dim=-1, keepdim=True) < 1
            readings = readings.clone()
            cubes(readings)[..., :3] += near * velocity
            proprio = torch.cat([proprio[:, :3] + velocity[:, 0] / interaction.slope, proprio[:, 3:]], dim=1)
        return torch.stack(frames, 1), torch.stack(setpoints, 1)

    trained = optimizers(interaction, 1e-2)
    known = torch.ones(1, 1, 1, dtype=torch.bool)
    for _ in range(300):
        truth, setpoints = world(128, 3)
        loss = losses.interaction_loss(interaction, truth[:, 0], setpoints, truth, known.expand_as(truth))
        interaction.zero_grad()
        loss.backward()
        for each in trained:
            each.step()
    truth, setpoints = world(400, 6)
    now = truth[:, 0]
    for k in range(6):
        now = interaction(now, setpoints[:, k], setpoints[:, k + 1])
    (now,) = now
    before, after = cubes(truth[:, 0])[..., :3], cubes(truth[:, 6])[..., :3]
    error = (cubes(now)[..., :3] - after).norm(dim=-1)
    pushed = (after - before).norm(dim=-1) > 0.1
    assert pushed.sum() > 50
    assert error[pushed].mean() < 0.4 * (after - before).norm(dim=-1)[pushed].mean()
    assert error[~pushed].mean() < 0.1
    assert (now - truth[:, 6])[:, :3].norm(dim=1).mean() < 0.1, "the hand follows"


def test_marks_are_where_the_cubes_are_finer_than_a_token():
    places = torch.tensor([[[AXIS[2], AXIS[5]], [0.1, -0.4]]])
    maps = mark(places, torch.tensor([[[1.0], [0.0]]]), AXIS)
    assert maps.shape == (1, 64, 6)
    assert maps[0, :, 0].argmax() == 2 * 8 + 5 and maps[0, :, 0].max() == pytest.approx(1)
    assert maps[0, :, 3:].abs().max() == 0, "nobody is there"
    moved = mark(places + torch.tensor([0.02, 0.0]), torch.ones(1, 2, 1), AXIS)
    assert (moved - mark(places, torch.ones(1, 2, 1), AXIS)).abs().max() > 0.05, "a fourteenth of a token"


def test_a_camera_is_fitted_to_places_and_a_reader_tells_where_it_looks():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(300, 3, generator=generator) * 2 - 1
    camera, aimed = Camera(), Camera()
    camera.projection.weight.data.normal_(0, 0.3, generator=generator)
    camera.projection.weight.data[2] = 0
    aimed.fit(truth, camera(truth).detach())
    torch.testing.assert_close(aimed(truth), camera(truth), rtol=1e-4, atol=1e-5)

    reader = SituationReader(channels=4, grid=8)
    looks = reader.looks_at(torch.randn(3, 64, 4, generator=generator))
    assert looks.shape == (3, len(COLORS), 2, 2) and looks.abs().max() <= 1


def test_world_model_draws_what_the_interaction_says():
    torch.manual_seed(0)
    model = LatentWorldModel(LatentConfig(width=16, blocks=1, interaction=16)).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.1)
    tokens, proprio, action = torch.randn(2, 64, 16), torch.zeros(2, 4), torch.zeros(2, 4)
    situation = model.reader(tokens)
    cubes(situation)[..., 4] = 1.0
    before = model.predictor.expect(tokens, proprio, action, situation)[0]
    model.predictor.interaction.move.biases[-1].data.fill_(5.0)
    assert (model.predictor.expect(tokens, proprio, action, situation)[0] - before).abs().max() > 1e-3
    cubes(situation)[..., 4] = 0.0
    situation[:, : len(HAND)] = 0.0
    gone = model.predictor.expect(tokens, proprio, action, situation)[0]
    assert gone.equal(model.predictor.expect(tokens, proprio, action)[0]), (
        "unread is without cubes, and a hand in the middle"
    )


def test_situation_is_read_once_and_kept_from_then_on():
    torch.manual_seed(0)
    model = LatentWorldModel(LatentConfig(width=16, blocks=1, interaction=16)).eval()
    model.predictor.interaction.move.biases[-1].data[..., 0] = 1.0
    images = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    first, action = model.encode(images, torch.zeros(3, 4)), torch.zeros(3, 4)
    assert first.situation.equal(model.reader(first.tokens))
    later = first
    for k in range(1, 4):
        later = model.step(later, action)
        torch.testing.assert_close(cubes(later.situation)[..., 0], cubes(first.situation)[..., 0] + 0.1 * k)
    assert not model.reader(later.tokens).allclose(later.situation), "not read again"
    unread = model.step(LatentState(first.tokens, first.proprio), action)
    assert unread.situation.equal(model.step(first, action).situation)
    rows = later.take([2, 0])
    assert rows.situation.equal(later.situation[[2, 0]]) and rows.tokens.equal(later.tokens[[2, 0]])


def test_without_interaction_nothing_is_read():
    model = LatentWorldModel(LatentConfig(width=16, blocks=1, interaction=0))
    assert model.predictor.interaction is None and model.predictor.table is None
    state = model.encode(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.zeros(2, 4))
    assert state.situation is None and model.step(state, torch.zeros(2, 4)).situation is None
    assert state.take(slice(1)).situation is None
    assert LatentWorldModel(LatentConfig(width=16, blocks=1, metric_dim=0)).predictor.interaction is None, "no reader"

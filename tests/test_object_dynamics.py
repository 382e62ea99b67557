"""What the hand does to the cubes, in numbers, and where they are marked on the map."""

import pytest
import torch

from dream_env.agents.fit import losses
from dream_env.agents.fit.muon import optimizers
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import Camera
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import HELD, Ensemble, Mixture, ObjectDynamics, cubes, mark
from dream_env.nicol.world_model.state_estimator import HAND, READINGS, StateEstimator
from dream_env.world_models.legacy import LatentState

AXIS = torch.linspace(-1, 1, 8)


def table(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Draws readings `(batch, R)` of a hand and of cubes about it, all present."""
    readings = torch.rand(batch, len(READINGS), generator=generator) * 2 - 1
    cubes(readings)[..., 4] = 1.0
    return readings


@pytest.mark.parametrize("futures", [1, 3])
def test_what_nothing_taught_to_move_stays(futures):
    readings = table(5, torch.Generator().manual_seed(0))
    interaction = ObjectDynamics(16, ensemble=3, futures=futures)
    told = interaction(readings, torch.zeros(5, 4), torch.ones(5, 4))
    first = told._replace(cubes=told.cubes[..., :1, :], logits=told.logits[..., :1])
    assert first.likeliest().equal(readings.expand(3, -1, -1))
    torch.testing.assert_close(told.mean(), readings.expand(3, -1, -1), atol=0.1, rtol=0)
    assert told.mean().equal(first.mean()) is (futures == 1), "the others begin elsewhere, or would stay alike"


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
    interaction, readings = ObjectDynamics(16, ensemble=3), table(5, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(interaction.move.weights[-1])
    setpoints = torch.zeros(5, 4), torch.ones(5, 4)
    once = interaction(readings, *setpoints).likeliest()
    twice = interaction(once, *setpoints).likeliest()
    assert once.shape == twice.shape == (3, *readings.shape) and once.var(0).max() > 1e-4
    torch.testing.assert_close(twice[1], interaction(once[1], *setpoints).likeliest()[1])


def test_doubt_is_where_the_networks_differ_and_luck_follows_one_of_them():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=16, futures=1)).eval()
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
    noise = torch.tensor([0.0, 0.4, 0.9, 0.99])
    lucky = model.step(state, action, noise)
    torch.testing.assert_close(
        cubes(lucky.situation)[..., 0] - start, 0.1 * torch.tensor([0.0, 1, 2, 2])[:, None].expand(-1, len(COLORS))
    )


def some_futures(rows: int, logits: tuple[float, ...]) -> Mixture:
    """Two networks' futures of the cubes of some rows: in future k they are at k, in the second network at 10 + k."""
    k = torch.arange(len(logits), dtype=torch.float32)
    places = torch.stack([k, 10 + k])[:, None, None, :, None].expand(2, rows, len(COLORS), -1, 4)
    hand, present = torch.zeros(rows, len(HAND)), torch.ones(2, rows, len(COLORS), 1)
    return Mixture(hand, places, torch.tensor(logits).expand(*places.shape[:-1]), present)


def test_luck_draws_a_network_and_its_futures_as_often_as_it_believes_in_them():
    rows = 4000
    futures, noise = some_futures(rows, (0.0, 2.0)), torch.arange(rows) / rows
    for temperature, chance in ((1.0, 0.8808), (4.0, 0.6225), (0.01, 1.0)):
        drawn = cubes(futures.drawn(noise, torch.full((rows,), temperature)))[..., 0]
        assert drawn.eq(drawn[:, :1]).all(), "one noise for a row"
        for network in (0.0, 10.0):
            assert (drawn[:, 0] == network + 1).float().mean() == pytest.approx(chance / 2, abs=1e-3)
            assert (drawn[:, 0] == network).float().mean() == pytest.approx((1 - chance) / 2, abs=1e-3)
    assert cubes(futures.likeliest())[..., 0].flatten(1).tolist() == [[1.0] * 4 * rows, [11.0] * 4 * rows]
    torch.testing.assert_close(cubes(futures.mean())[0, 0, 0, 0], torch.tensor(0.8808), atol=1e-4, rtol=0)


def test_what_happened_is_told_from_what_is_known_of_it():
    futures, truth = some_futures(2, (0.0, 2.0)), table(2, torch.Generator().manual_seed(0))
    known = torch.ones_like(truth, dtype=torch.bool)
    cubes(truth)[..., :4] = torch.tensor([0.2, 0.9])[:, None, None]
    assert cubes(futures.nearest(truth, known))[0, ..., 0].tolist() == [[0.0] * 4, [1.0] * 4]
    assert cubes(futures.nearest(truth, ~known))[0, ..., 0].tolist() == [[1.0] * 4] * 2, "what is likelier beforehand"
    cubes(truth)[..., :4] = 0.5
    assert cubes(futures.nearest(truth, known))[0, ..., 0].tolist() == [[1.0] * 4] * 2, "no matter how near"
    assert (futures.scores(truth, known).logsumexp(-1) < futures.scores(truth, ~known).logsumexp(-1)).all()


def slips(generator: torch.Generator, blind: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Lifts of the red cube that fail by chance in 3 of 10 cases; a hand that sees it goes back, a blind one goes on.

    Returns:
        Readings `(256, 4, R)` and set-points `(256, 4, 4)`.
    """
    readings = table(256, generator)[:, None].repeat(1, 4, 1)
    cubes(readings)[..., 1:, 4] = 0.0
    proprio, slipped = torch.zeros(256, 4, 4), torch.rand(256, generator=generator) < 0.3
    goes = torch.tensor([0.0, 0.5, 1.0, 1.5]).repeat(256, 1)
    if not blind:
        goes[slipped] = torch.tensor([0.0, 0.5, 0.0, -0.5])
    proprio[..., 2], readings[..., 2] = goes, goes
    place = torch.stack([torch.zeros_like(goes), torch.zeros_like(goes), goes * ~slipped[:, None]], dim=-1)
    cubes(readings)[..., 0, :3], cubes(readings)[..., 0, 3] = place, (~slipped).float()[:, None]
    cubes(readings)[:, 0, 0, 3] = 1.0  # all are held at first
    return readings, proprio


@pytest.mark.parametrize("futures", [1, 2])
def test_luck_is_not_told_from_how_a_seeing_hand_goes_on(futures):
    """One guess learns that a hand which goes on has the cube, and believes in all that a blind one does.

    A mixture knows how often a cube slips.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    interaction = ObjectDynamics(32, futures=futures)
    trained = optimizers(interaction, 2e-2)
    for update in range(250):
        truth, setpoints = slips(generator)
        known = torch.zeros_like(truth, dtype=torch.bool)
        cubes(known)[..., 0, :4] = True
        loss = losses.interaction_loss(interaction, truth[:, 0], setpoints, truth, known)
        interaction.zero_grad()
        loss.backward()
        for each in trained:
            for group in each.param_groups:
                group["lr"] = 2e-2 * (1 - update / 250)
            each.step()
    truth, setpoints = slips(generator, blind=True)
    now = truth[:, 0]
    for k in range(3):
        told = interaction(now, setpoints[:, k], setpoints[:, k + 1])
        noise = torch.rand(len(now), generator=generator)
        now = told.drawn(noise, torch.ones_like(noise)).detach()
    height = cubes(now)[:, 0, 2]
    up = (height > 1.2).float().mean()
    assert up > 0.95 if futures == 1 else 0.6 < up < 0.8


def test_the_kept_situation_is_judged_and_the_tokens_where_none_is_kept():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=16)).eval()
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
    interaction = ObjectDynamics(64)

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
        now = interaction(now, setpoints[:, k], setpoints[:, k + 1]).likeliest()
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

    reader = StateEstimator(channels=4, grid=8)
    looks = reader.looks_at(torch.randn(3, 64, 4, generator=generator))
    assert looks.shape == (3, len(COLORS), 2, 2) and looks.abs().max() <= 1


def test_world_model_draws_what_the_interaction_says():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=16)).eval()
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
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=16, futures=1)).eval()
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
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=0))
    assert model.predictor.interaction is None and model.predictor.table is None
    state = model.encode(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.zeros(2, 4))
    assert state.situation is None and model.step(state, torch.zeros(2, 4)).situation is None
    assert state.take(slice(1)).situation is None
    assert StateGroundedModel(StateGroundedConfig(width=16, blocks=1, metric_dim=0)).predictor.interaction is None, (
        "no reader"
    )


def test_a_dream_retraces_what_happened():
    torch.manual_seed(0)
    model = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=16, futures=2)).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.1)
    moves = model.predictor.interaction.move
    torch.nn.init.zeros_(moves.weights[-1])
    moves.biases[-1].data[..., 5], moves.biases[-1].data[..., 9] = 5.0, -4.0  # half a decimeter along x, rarely
    images, action = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8), torch.zeros(4, 4)
    state = model.encode(images, torch.zeros(4, 4))
    cubes(state.situation)[..., HELD] = 1.0
    truth, known = state.situation.clone(), torch.ones_like(state.situation, dtype=torch.bool)
    cubes(truth)[:2, :, 0] += 0.5
    told = model.retrace(state, action, truth, known)
    torch.testing.assert_close(told.situation[:, 4:], truth[:, 4:])
    stays = model.step(state, action)
    torch.testing.assert_close(stays.situation[:, 4:], state.situation[:, 4:])
    assert told.tokens[2:].allclose(stays.tokens[2:]) and not told.tokens[:2].allclose(stays.tokens[:2])
    bare = StateGroundedModel(StateGroundedConfig(width=16, blocks=1, interaction=0))
    alone = bare.encode(images, torch.zeros(4, 4))
    assert bare.retrace(alone, action, truth, known).tokens.equal(bare.step(alone, action).tokens)

"""What the hand does to the cubes, in numbers, and where they are marked on the map."""

import pytest
import torch

from dream_env.agents.fit.muon import optimizers
from dream_env.agents.fit.state_grounded import losses
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.nicol.world_model.object_dynamics import HELD, Ensemble, Mixture, ObjectDynamics, cubes
from dream_env.nicol.world_model.projection import Projection, gaussian_heatmap
from dream_env.nicol.world_model.state_estimator import HAND, OBJECT_STATE, StateEstimator
from dream_env.world_models.protocol import take

AXIS = torch.linspace(-1, 1, 8)


def table(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Draws states `(batch, R)` of a hand and of cubes about it, all present."""
    states = torch.rand(batch, len(OBJECT_STATE), generator=generator) * 2 - 1
    cubes(states)[..., 4] = 1.0
    return states


@pytest.mark.parametrize("components", [1, 3])
def test_what_nothing_taught_to_move_stays(components):
    states = table(5, torch.Generator().manual_seed(0))
    dynamics = ObjectDynamics(16, ensemble=3, components=components)
    told = dynamics(states, torch.zeros(5, 4), torch.ones(5, 4))
    first = told._replace(cubes=told.cubes[..., :1, :], logits=told.logits[..., :1])
    assert first.mode().equal(states.expand(3, -1, -1))
    torch.testing.assert_close(told.mean(), states.expand(3, -1, -1), atol=0.1, rtol=0)
    assert told.mean().equal(first.mean()) is (components == 1), "the others begin elsewhere, or would stay alike"


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
    dynamics, states = ObjectDynamics(16, ensemble=3), table(5, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(dynamics.cube_dynamics.weights[-1])
    setpoints = torch.zeros(5, 4), torch.ones(5, 4)
    once = dynamics(states, *setpoints).mode()
    twice = dynamics(once, *setpoints).mode()
    assert once.shape == twice.shape == (3, *states.shape) and once.var(0).max() > 1e-4
    torch.testing.assert_close(twice[1], dynamics(once[1], *setpoints).mode()[1])


def some_state(rows: int, components: int) -> tuple[StateGroundedModel, dict[str, torch.Tensor]]:
    """A small model whose heads differ, and states of noise."""
    torch.manual_seed(0)
    config = StateGroundedConfig(width=16, blocks=1, dynamics_width=16, mixture_components=components)
    model = StateGroundedModel(config).eval()
    torch.nn.init.normal_(model.predictor.heads.weight, std=0.1)
    return model, model.encode({"pixels": torch.randint(0, 255, (rows, 64, 64, 3), dtype=torch.uint8)})


def test_disagreement_is_where_the_networks_differ_and_noise_follows_one_of_them():
    model, state = some_state(4, components=1)
    action, moves = torch.zeros(4, 4), model.object_dynamics.cube_dynamics
    moves.biases[-1].data[:, 0, 0] = torch.tensor([0.0, 1.0, 2.0])
    mixture = model.object_dynamics(state["object_state"], state["proprio"], state["proprio"])
    apart = len(COLORS) * 0.1**2 * 2 / 3 / len(OBJECT_STATE)
    torch.testing.assert_close(mixture.disagreement(), torch.full((4,), apart))
    start = cubes(state["object_state"])[..., 0]
    after, predicted = model.step(state, action)
    assert (predicted.disagreement > apart).all(), "that of the heads comes to it"
    moved = cubes(after["object_state"])[..., 0] - start
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), msg="the mean")
    drawn, _ = model.step(state, action, torch.tensor([0.0, 0.4, 0.9, 0.99])[:, None])
    expected = 0.1 * torch.tensor([0.0, 1, 2, 2])[:, None].expand(-1, len(COLORS))
    torch.testing.assert_close(cubes(drawn["object_state"])[..., 0] - start, expected)


def some_mixture(rows: int, logits: tuple[float, ...]) -> Mixture:
    """Two networks' futures of the cubes of some rows: in future k they are at k, in the second network at 10 + k."""
    k = torch.arange(len(logits), dtype=torch.float32)
    places = torch.stack([k, 10 + k])[:, None, None, :, None].expand(2, rows, len(COLORS), -1, 4)
    hand, present = torch.zeros(rows, len(HAND)), torch.ones(2, rows, len(COLORS), 1)
    return Mixture(hand, places, torch.tensor(logits).expand(*places.shape[:-1]), present)


def test_noise_draws_a_network_and_its_futures_as_often_as_it_believes_in_them():
    rows = 4000
    mixture, noise = some_mixture(rows, (0.0, 2.0)), torch.arange(rows) / rows
    for temperature, chance in ((1.0, 0.8808), (4.0, 0.6225), (0.01, 1.0)):
        drawn = cubes(mixture.sample(noise, torch.full((rows,), temperature)))[..., 0]
        assert drawn.eq(drawn[:, :1]).all(), "one noise for a row"
        for network in (0.0, 10.0):
            assert (drawn[:, 0] == network + 1).float().mean() == pytest.approx(chance / 2, abs=1e-3)
            assert (drawn[:, 0] == network).float().mean() == pytest.approx((1 - chance) / 2, abs=1e-3)
    assert cubes(mixture.mode())[..., 0].flatten(1).tolist() == [[1.0] * 4 * rows, [11.0] * 4 * rows]
    torch.testing.assert_close(cubes(mixture.mean())[0, 0, 0, 0], torch.tensor(0.8808), atol=1e-4, rtol=0)


def test_what_happened_is_told_from_what_is_known_of_it():
    mixture, truth = some_mixture(2, (0.0, 2.0)), table(2, torch.Generator().manual_seed(0))
    known = torch.ones_like(truth, dtype=torch.bool)
    cubes(truth)[..., :4] = torch.tensor([0.2, 0.9])[:, None, None]
    assert cubes(mixture.posterior_mode(truth, known))[0, ..., 0].tolist() == [[0.0] * 4, [1.0] * 4]
    assert cubes(mixture.posterior_mode(truth, ~known))[0, ..., 0].tolist() == [[1.0] * 4] * 2, (
        "what is likelier beforehand"
    )
    cubes(truth)[..., :4] = 0.5
    assert cubes(mixture.posterior_mode(truth, known))[0, ..., 0].tolist() == [[1.0] * 4] * 2, "no matter how near"
    assert (mixture.log_joint(truth, known).logsumexp(-1) < mixture.log_joint(truth, ~known).logsumexp(-1)).all()


def slips(generator: torch.Generator, blind: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Lifts of the red cube that fail by chance in 3 of 10 cases; a hand that sees it goes back, a blind one goes on.

    Returns:
        Readings `(256, 4, R)` and set-points `(256, 4, 4)`.
    """
    states = table(256, generator)[:, None].repeat(1, 4, 1)
    cubes(states)[..., 1:, 4] = 0.0
    proprio, slipped = torch.zeros(256, 4, 4), torch.rand(256, generator=generator) < 0.3
    goes = torch.tensor([0.0, 0.5, 1.0, 1.5]).repeat(256, 1)
    if not blind:
        goes[slipped] = torch.tensor([0.0, 0.5, 0.0, -0.5])
    proprio[..., 2], states[..., 2] = goes, goes
    place = torch.stack([torch.zeros_like(goes), torch.zeros_like(goes), goes * ~slipped[:, None]], dim=-1)
    cubes(states)[..., 0, :3], cubes(states)[..., 0, 3] = place, (~slipped).float()[:, None]
    cubes(states)[:, 0, 0, 3] = 1.0  # all are held at first
    return states, proprio


@pytest.mark.parametrize("components", [1, 2])
def test_chance_is_not_told_from_how_a_seeing_hand_goes_on(components):
    """One guess learns that a hand which goes on has the cube, and believes in all that a blind one does.

    A mixture knows how often a cube slips.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    dynamics = ObjectDynamics(32, components=components)
    trained = optimizers(dynamics, 2e-2)
    for update in range(250):
        truth, setpoints = slips(generator)
        known = torch.zeros_like(truth, dtype=torch.bool)
        cubes(known)[..., 0, :4] = True
        loss = losses.object_dynamics_loss(dynamics, truth[:, 0], setpoints, truth, known)
        dynamics.zero_grad()
        loss.backward()
        for each in trained:
            for group in each.param_groups:
                group["lr"] = 2e-2 * (1 - update / 250)
            each.step()
    truth, setpoints = slips(generator, blind=True)
    now = truth[:, 0]
    for k in range(3):
        told = dynamics(now, setpoints[:, k], setpoints[:, k + 1])
        noise = torch.rand(len(now), generator=generator)
        now = told.sample(noise, torch.ones_like(noise)).detach()
    height = cubes(now)[:, 0, 2]
    up = (height > 1.2).float().mean()
    assert up > 0.95 if components == 1 else 0.6 < up < 0.8


def test_it_learns_a_push_of_any_cube_over_many_steps():
    """In this world the hand is at its set-point, and takes along what is within 10 cm of it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    dynamics = ObjectDynamics(64)

    def world(batch: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        states, frames = table(batch, generator), []
        velocity = torch.rand(batch, 1, 3, generator=generator) * 0.2 - 0.1
        proprio = torch.rand(batch, 4, generator=generator) - 0.5
        setpoints = []
        for _ in range(steps + 1):
            states = states.clone()
            hand = proprio[:, :3] * dynamics.slope + dynamics.middle
            states[:, :4] = torch.cat([hand - dynamics.above, proprio[:, 3:]], dim=1)
            frames.append(states)
            setpoints.append(proprio)
            near = (cubes(states)[..., :3] - hand[:, None]).norm(dim=-1, keepdim=True) < 1
            states = states.clone()
            cubes(states)[..., :3] += near * velocity
            proprio = torch.cat([proprio[:, :3] + velocity[:, 0] / dynamics.slope, proprio[:, 3:]], dim=1)
        return torch.stack(frames, 1), torch.stack(setpoints, 1)

    trained = optimizers(dynamics, 1e-2)
    known = torch.ones(1, 1, 1, dtype=torch.bool)
    for _ in range(300):
        truth, setpoints = world(128, 3)
        loss = losses.object_dynamics_loss(dynamics, truth[:, 0], setpoints, truth, known.expand_as(truth))
        dynamics.zero_grad()
        loss.backward()
        for each in trained:
            each.step()
    truth, setpoints = world(400, 6)
    now = truth[:, 0]
    for k in range(6):
        now = dynamics(now, setpoints[:, k], setpoints[:, k + 1]).mode()
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
    maps = gaussian_heatmap(places, torch.tensor([[[1.0], [0.0]]]), AXIS)
    assert maps.shape == (1, 64, 6)
    assert maps[0, :, 0].argmax() == 2 * 8 + 5 and maps[0, :, 0].max() == pytest.approx(1)
    assert maps[0, :, 3:].abs().max() == 0, "nobody is there"
    moved = gaussian_heatmap(places + torch.tensor([0.02, 0.0]), torch.ones(1, 2, 1), AXIS)
    assert (moved - gaussian_heatmap(places, torch.ones(1, 2, 1), AXIS)).abs().max() > 0.05, "a fourteenth of a token"


def test_a_camera_is_fitted_to_places_and_a_reader_tells_where_it_looks():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(300, 3, generator=generator) * 2 - 1
    camera, aimed = Projection(), Projection()
    camera.projection.weight.data.normal_(0, 0.3, generator=generator)
    camera.projection.weight.data[2] = 0
    aimed.fit(truth, camera(truth).detach())
    torch.testing.assert_close(aimed(truth), camera(truth), rtol=1e-4, atol=1e-5)

    reader = StateEstimator(channels=4, grid=8)
    looks = reader.attended_places(torch.randn(3, 64, 4, generator=generator))
    assert looks.shape == (3, len(COLORS), 2, 2) and looks.abs().max() <= 1


def test_world_model_draws_what_the_object_dynamics_say():
    model, state = some_state(2, components=2)
    cubes(state["object_state"])[..., 4] = 1.0
    action = torch.zeros(2, 4)
    before = model.step(state, action)[0]["tokens"]
    model.object_dynamics.cube_dynamics.biases[-1].data.fill_(5.0)
    assert (model.step(state, action)[0]["tokens"] - before).abs().max() > 1e-3
    cubes(state["object_state"])[..., 4] = 0.0
    gone = model.step(state, action)[0]["tokens"]
    cubes(state["object_state"])[..., :3] += 1.0
    torch.testing.assert_close(model.step(state, action)[0]["tokens"], gone, msg="who is not there is not drawn")


def test_object_state_is_estimated_once_and_kept_from_then_on():
    model, first = some_state(3, components=1)
    model.object_dynamics.cube_dynamics.biases[-1].data[..., 0] = 1.0
    later, action = first, torch.zeros(3, 4)
    for k in range(1, 4):
        later, _ = model.step(later, action)
        expected = cubes(first["object_state"])[..., 0] + 0.1 * k
        torch.testing.assert_close(cubes(later["object_state"])[..., 0], expected)
    assert not model.state_estimator(later["tokens"]).allclose(later["object_state"]), "not estimated again"
    some = take(later, [2, 0])
    assert all(some[name].equal(later[name][[2, 0]]) for name in later)


def test_a_teacher_forced_dream_is_of_what_happened():
    model, state = some_state(4, components=2)
    moves = model.object_dynamics.cube_dynamics
    torch.nn.init.zeros_(moves.weights[-1])
    moves.biases[-1].data[..., 5], moves.biases[-1].data[..., 9] = 5.0, -4.0  # half a decimeter along x, rarely
    action = torch.zeros(4, 4)
    cubes(state["object_state"])[..., HELD] = 1.0
    truth, known = state["object_state"].clone(), torch.ones_like(state["object_state"], dtype=torch.bool)
    cubes(truth)[:2, :, 0] += 0.5
    forced, (stays, _) = model.posterior_step(state, action, truth, known), model.step(state, action)
    torch.testing.assert_close(forced["object_state"][:, 4:], truth[:, 4:])
    torch.testing.assert_close(stays["object_state"][:, 4:], state["object_state"][:, 4:])
    assert forced["tokens"][2:].allclose(stays["tokens"][2:])
    assert not forced["tokens"][:2].allclose(stays["tokens"][:2])

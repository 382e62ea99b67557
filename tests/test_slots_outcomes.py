"""Outcomes of a step of slots: what is learned of chance, what is drawn of it, and models that know only one."""

import json
from dataclasses import asdict

import blocks
import pytest
import torch

from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.command import fit
from dream_env.agents.fit.slots.stages import outcome_error
from dream_env.world_models import checkpoint
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.outcomes import Outcomes, drawn
from dream_env.world_models.slots.reader import FEATURES, SEEN

SLOTS, MEMBERS, MEMORY = 2, 3, 4


def made(outcomes):
    torch.manual_seed(0)
    config = SlotConfig(
        slots=SLOTS, members=MEMBERS, memory=MEMORY, picture_size=32, width=16, outcomes=outcomes, success=False
    )
    return SlotModel(config, blocks.dataset(2).spec).eval().requires_grad_(False)


def state_of(model, rows):
    numbers = torch.rand(rows, SLOTS, FEATURES) * 0.4 + 0.2
    numbers[..., SEEN] = 1
    hand = torch.rand(rows, 2) - 0.5
    return {"hand": hand, "slots": numbers, "memory": torch.zeros(rows, SLOTS, model.remembered)}


@pytest.fixture
def model():
    return made(2)


def free(outcomes):
    """Outcomes of one member for one slot, of parameters of their own."""
    change = (0.1 * torch.randn(1, 1, 1, outcomes, FEATURES - 1)).requires_grad_()
    logit, spread = (torch.zeros(1, 1, 1, outcomes, requires_grad=True) for _ in range(2))
    return change, logit, spread


def test_both_of_two_futures_are_learned_and_how_likely_they_are(model):
    torch.manual_seed(0)
    start = torch.zeros(1, 1, 1, FEATURES)
    start[..., 2:] = 0.5
    start[..., SEEN] = 1
    change, logit, spread = parts = free(2)
    optimizer = torch.optim.Adam(parts, 0.05)
    count = 80
    shift = torch.where(torch.arange(count) < count // 4, 6.0, 0.0)  # pixels, in a quarter of the times
    after = start.expand(1, count, 1, -1).clone()
    after[..., 0] += (shift / (model.config.picture_size / 2))[None, :, None]
    truth = torch.stack([start.expand_as(after), after], 2)
    for _ in range(300):
        outcomes = Outcomes(
            *(part.expand(1, count, *part.shape[2:]) for part in (change, logit, spread.exp())),
            torch.zeros(1, count, 1, 2, MEMORY),
        )
        wrong, which = outcome_error(
            model, start.expand(1, count, 1, -1), outcomes, truth, torch.ones(1, count, 1, 1, dtype=torch.bool)
        )
        optimizer.zero_grad()
        wrong.mean().backward()
        optimizer.step()
    places, shares = change[0, 0, 0, :, 0], logit[0, 0, 0].softmax(-1)
    seldom = int(places.argmax())
    assert places[seldom].item() == pytest.approx(6.0, abs=0.3)
    assert places[1 - seldom].item() == pytest.approx(0.0, abs=0.3)
    assert shares[seldom].item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(which[0, :, 0] == seldom, shift > 0), "the rollout goes on from what happened"


def test_noise_draws_outcomes_as_often_as_they_are_likely():
    logit = torch.tensor([1.0, 0.0]).log().clamp(min=-1.0986).expand(1, 3000, 1, 2)  # 3 to 1
    outcomes = Outcomes(torch.zeros(1, 3000, 1, 2, 5), logit, torch.ones(1, 3000, 1, 2), torch.zeros(1, 3000, 1, 2, 1))
    chance = (torch.arange(3000) + 0.5) / 3000
    for temperature, share in ((1.0, 0.25), (2.0, 1 / (1 + 3**0.5)), (0.0, 0.0)):
        assert outcomes.drawn(chance, torch.tensor(temperature)).float().mean().item() == pytest.approx(share, abs=1e-3)


def test_without_noise_the_likeliest_outcome_comes_true():
    change = torch.arange(2.0).view(1, 1, 1, 2, 1).expand(1, 4, 1, 2, 5)
    logit = torch.tensor([0.0, 1e-5]).expand(1, 4, 1, 2)  # nearly equal
    outcomes = Outcomes(change, logit, torch.ones(1, 4, 1, 2), torch.zeros(1, 4, 1, 2, 1))
    picked, own = drawn(outcomes, torch.ones(1, 4, 3), torch.zeros(4), torch.tensor(0.0))
    assert torch.equal(picked, torch.ones(4, 1, 5)) and torch.equal(own, torch.ones(4, 3))


def outcomes_of(model, state, action):
    """What every member tells of the first step."""
    count = len(action)
    own = model.own_of(state).expand(MEMBERS, count, -1)
    return model.dynamics(
        state["slots"].expand(MEMBERS, *state["slots"].shape),
        torch.zeros(MEMBERS, count, SLOTS, MEMORY),
        own,
        model.normalized(action).expand(MEMBERS, count, -1),
        model.place(own),
        model.place,
    )[0]


def test_steps_are_one_of_the_outcomes_of_a_member(model):
    state, action = state_of(model, 64), torch.rand(64, 2)
    every = torch.full((64,), 0.0)
    outcomes = outcomes_of(model, state, action)
    found = set()
    for noise in torch.linspace(0.01, 0.99, 40):
        after = model.step(state, action, (every + noise)[:, None])[0]["slots"]
        for member in range(MEMBERS):
            for j in range(2):
                one = model.moved(state["slots"], outcomes.change[member, ..., j, :])
                if torch.allclose(one[0, 0], after[0, 0], atol=1e-6):
                    found.add((member, j))
    assert len(found) == 2 * MEMBERS


def test_at_temperature_0_and_without_noise_it_is_the_likeliest(model):
    state, action = state_of(model, 32), torch.rand(32, 2)
    likeliest = model.step(state, action)[0]["slots"]
    assert torch.equal(likeliest, model.step(state, action, torch.rand(32, 1), temperature=0.0)[0]["slots"])
    assert not torch.equal(likeliest, model.step(state, action, torch.rand(32, 1))[0]["slots"])


def test_members_remember_the_outcome_that_happened():
    change = torch.zeros(2, 1, 1, 2, 5)
    change[0, ..., 1, :], change[1, ..., 0, :] = 3.0, 3.0  # the second member has them the other way round
    memory = torch.arange(4.0).view(2, 1, 1, 2, 1)
    outcomes = Outcomes(change, torch.zeros(2, 1, 1, 2), torch.ones(2, 1, 1, 2), memory)
    happened = outcomes.nearest(torch.full((1, 1, 5), 2.9))
    assert outcomes.pick(happened)[1].flatten().tolist() == [1.0, 2.0]


def test_a_checkpoint_that_does_not_tell_knows_one_outcome_and_steps_as_it_did(tmp_path):
    model = made(1)
    checkpoint.save(model, tmp_path, "card")
    told = json.loads((tmp_path / "config.json").read_text())
    assert told.pop("outcomes") == 1
    (tmp_path / "config.json").write_text(json.dumps(told))
    again = checkpoint.load(tmp_path)
    assert asdict(again.config) == asdict(model.config)
    state, action, noise = state_of(again, 8), torch.rand(8, 2), torch.rand(8, 1)
    outcomes = outcomes_of(again, state, action)
    changes, rows = outcomes.change[..., 0, :], torch.arange(8)
    member = (noise[:, 0] * MEMBERS).long()
    for temperature in (0.5, 1.0, 2.0):  # between the mean of the members and one of them
        change = changes.mean(0) + temperature * (changes[member, rows] - changes.mean(0))
        after, told = again.step(state, action, noise, temperature)
        torch.testing.assert_close(after["slots"], again.moved(state["slots"], change), rtol=0, atol=1e-6)
    torch.testing.assert_close(told.disagreement, changes.var(0, unbiased=False).mean((-1, -2)))
    memory = outcomes.memory[..., 0, :].movedim(0, -2).flatten(-2)
    torch.testing.assert_close(after["memory"], memory)


def test_both_kinds_are_fitted(tmp_path):
    data = blocks.dataset(10)
    for outcomes in (1, 2):
        args = Arguments(
            data=(),
            out=tmp_path / str(outcomes),
            outcomes=outcomes,
            updates=2,
            distance_updates=1,
            own_updates=1,
            picture_size=32,
            width=16,
            batch=4,
            ahead=2,
            held_out=0.2,
        )
        model = fit(args, data).model
        assert model.config.outcomes == model.dynamics.outcomes == outcomes


def test_no_outcome_is_refused():
    with pytest.raises(ValueError, match="outcomes"):
        SlotConfig(outcomes=0)

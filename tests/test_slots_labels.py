"""A few labelled episodes: what they teach a model of slots, that no other label is read, and what is refused."""

import json
from dataclasses import replace

import blocks
import numpy as np
import pytest
import small_world
import torch

from dream_env.agents.fit.slots import labels
from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.command import fit
from dream_env.agents.fit.slots.matching import match
from dream_env.world_models import checkpoint
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import SEEN

SHORT = {
    "updates": 2,
    "distance_updates": 2,
    "own_updates": 2,
    "position_updates": 2,
    "picture_size": 32,
    "width": 16,
    "batch": 4,
    "ahead": 2,
    "held_out": 0.2,
    "label": "pose",
    "label_size": 2,
}


def asked(out, **changes):
    return Arguments(data=(), out=out, **(SHORT | changes))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model without labels, and its data."""
    data, out = blocks.dataset(60), tmp_path_factory.mktemp("base")
    return fit(asked(out), data), out, data


@pytest.fixture(scope="module")
def told(base, tmp_path_factory):
    """A model that goes on from it with twenty labelled episodes."""
    out = tmp_path_factory.mktemp("told")
    how = {"init": str(base[1]), "updates": 0, "own_updates": 0, "distance_updates": 0, "position_updates": 600}
    return fit(asked(out, labelled=20, **how), base[2]), out


def firsts(data):
    return {name: torch.from_numpy(np.array(part[data.offsets[:-1]])) for name, part in data.observation.items()}


def weights(run):
    return run.model.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_positions_are_told_of_episodes_without_labels(base, told):
    fitted, data = told[0], base[2]
    rows = np.flatnonzero(np.isin(data.seed, fitted.figures["held_out_seeds"]))
    red = int(fitted.model.painter.shown[:, 0].argmax())
    found = fitted.model.positions(fitted.model.encode(firsts(data)))[rows]
    truth = torch.from_numpy(data.labels["pose"][data.offsets[rows]]).unflatten(1, (2, 2))
    for slot, thing in ((red, 0), (1 - red, 1)):
        off = (found[:, slot] - truth[:, thing]).norm(dim=-1)
        assert off[off.isfinite()].median() < 0.1 < 0.3 < truth[:, thing].std()  # things are all over the table
    assert fitted.figures["labelled"]["paired"] == 1.0 and fitted.figures["labelled"]["off"] < 0.1


def with_labels(data, rows, factor):
    """The data with other labels of some episodes."""
    pose = data.labels["pose"].copy()
    for i in rows:
        pose[slice(*data.offsets[i : i + 2])] *= factor
    return replace(data, labels={"pose": pose})


def test_labels_of_the_chosen_episodes_are_read_and_no_others(base, tmp_path, monkeypatch):
    data, how = base[2], {"init": str(base[1]), "updates": 0, "own_updates": 0, "labelled": 5}
    choose, chosen = labels.choose, []
    monkeypatch.setattr(labels, "choose", lambda *args: chosen.append(choose(*args)) or chosen[-1])
    fitted = fit(asked(tmp_path / "as they are", **how), data)
    rows = chosen[0].rows
    assert len(rows) == 5 and not np.isin(data.seed[rows], fitted.figures["held_out_seeds"]).any()
    others = np.setdiff1d(np.arange(len(data)), rows)
    for name, some, factor, alike in (
        ("unknown", others, np.nan, True),
        ("wrong", others, -3.0, True),
        ("its own", rows, -3.0, False),
    ):
        again = fit(asked(tmp_path / name, **how), with_labels(data, some, factor))
        assert same(weights(fitted), weights(again)) == alike, name


def test_without_labelled_episodes_nothing_tells_positions(base):
    model = base[0].model
    assert model.position is None and model.config.position == 0 and "labelled" not in base[0].figures
    assert "Nothing privileged is read" in (base[1] / "README.md").read_text()
    with pytest.raises(ValueError, match="--labelled"):
        model.positions(model.encode(firsts(base[2])))


def test_the_card_tells_that_labels_were_read_in_this_fit_or_before(base, told, tmp_path):
    card = (told[1] / "README.md").read_text()
    assert "Labels ('pose') of 20 episodes are read" in card and "Nothing privileged" not in card
    how = {"init": str(told[1]), "updates": 0, "own_updates": 0}
    onward = fit(asked(tmp_path / "onward", **how), base[2])
    assert "Labels were read when" in (tmp_path / "onward" / "README.md").read_text()
    before, after = weights(told[0]), weights(onward)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("position."))


def test_distances_begin_as_they_were_and_then_count_positions(base, told):
    """Of a base without positions: the inputs that come with them have no weight at first."""
    words = torch.rand(60, 64)
    old, new = ({**run.model.encode(firsts(base[2])), "instruction": words} for run in (base[0], told[0]))
    before, after = base[0].model.embedding(old), told[0].model.embedding(new)
    torch.testing.assert_close(before, after)
    model = told[0].model
    numbers, more = model.related_dim, model.config.position
    with torch.no_grad():
        model.phi.net.weights[0][:, numbers - more : numbers] = 0.1
    changed = model.embedding(new)
    with torch.no_grad():
        model.phi.net.weights[0][:, numbers - more : numbers] = 0.0
    assert more == 2 and (changed - after).abs().max() > 1e-3


def test_what_was_not_seen_is_nowhere(told):
    model = told[0].model
    state = {"slots": torch.zeros(1, 2, model.cameras * 6), "hand": torch.zeros(1, 2)}
    assert model.positions(state).isnan().all() and not model.related(state)[0][..., -2:].any()
    state["slots"][0, 1, SEEN] = 1
    assert model.positions(state)[0, 1].isfinite().all()


def test_models_that_were_fitted_before_positions_are_still_read(base, tmp_path):
    model = base[0].model
    checkpoint.save(model, tmp_path, "card")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["position"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert same(model.state_dict(), checkpoint.load(tmp_path).state_dict())


def test_slots_are_paired_with_things_in_any_order():
    """Three of four things that are seen are labelled, in another order each time; a fourth label is of none."""
    rng = np.random.default_rng(0)
    place = np.concatenate([rng.uniform(-0.4, 0.4, (25, 1, 4, 2)), np.full((25, 1, 4, 1), 0.8)], -1).repeat(12, 1)
    place[:, :, 0] += np.linspace(0, 0.2, 12)[None, :, None]
    slots = place @ rng.normal(size=(3, 5)) / (1 + 0.4 * place[..., :1])
    slots += rng.normal(0, 0.005, slots.shape)
    seen = rng.random(slots.shape[:3]) > 0.2
    order = rng.permuted(np.tile(np.arange(4), (25, 1)), axis=1)[:, :3]
    given = np.take_along_axis(place, order[:, None, :, None], 2)
    given = np.concatenate([given, np.zeros_like(given[:, :, :1])], 2)
    truth = np.full((25, 4), -1)
    np.put_along_axis(truth, order, np.arange(3)[None], 1)
    found = match(slots * seen[..., None], seen, given)
    assert (found == truth).mean() > 0.95
    assert (match(slots, np.zeros_like(seen), given) == -1).all()


def test_what_is_seldom_seen_is_learned_all_the_same(base):
    """One frame in fifty is high up; by itself it would be taken for an outlier."""
    model = SlotModel(replace(base[0].model.config, position=3), base[0].model.spec)
    torch.manual_seed(0)
    given, up = torch.rand(2000, 8), torch.rand(2000) < 0.02
    given[:, 2] = 0.2 * given[:, 2] + 0.8 * up
    place = torch.cat([given[:, :2], 0.15 * up[:, None]], 1)
    stage = labels.position_stage(model, labels.Pairs(given, place, 1.0), 300)
    stage.begin()
    optimizer, generator = torch.optim.Adam(stage.module.parameters(), 3e-3), torch.Generator().manual_seed(0)
    for _ in range(300):
        loss = stage.loss(generator, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    told = model.position.meters(model.position.every(given).mean(0))[:, 2]
    assert told[up].median() > 0.1 and told[~up].abs().median() < 0.02


def test_a_label_of_one_folder_is_unknown_in_the_other(tmp_path):
    for name, labelled in (("robot", False), ("tracked", True)):
        small_world.write(tmp_path / name, *(blocks.episode(i, labels=labelled) for i in range(4)), spec=blocks.spec())
    folders = (tmp_path / "robot", tmp_path / "tracked")
    data = labels.load(folders, "pose")
    known = np.isfinite(data.labels["pose"]).all(1)
    assert data.labels["pose"].shape == (72, 4) and not known[:36].any() and known[36:].all()
    assert labels.load(folders, None).labels == {}
    args = asked(tmp_path, labelled=3)
    assert (labels.choose(args, data, np.arange(8)).rows == [4, 5, 6]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "contact"}, "label='contact' is not in the data; accepted: 'pose'"),
        ({"label_size": 3}, "label_size=3; accepted: a divisor of the 4 numbers of 'pose'"),
        ({"labelled": 9}, r"labelled=9; accepted: at most 6, the training episodes in which 'pose' is known"),
    ],
)
def test_labels_that_are_not_there_are_refused(changes, message, tmp_path):
    data = with_labels(blocks.dataset(10), [0, 1, 2], np.nan)
    data.labels["pose"][data.offsets[3]] = np.nan  # one number that is missing is enough
    data = blocks.dataset(10) if "labelled" not in changes else data
    with pytest.raises(ValueError, match=message):
        labels.choose(asked(tmp_path, **({"labelled": 2} | changes)), data, np.arange(10))


def test_data_without_any_label_say_so(tmp_path):
    with pytest.raises(ValueError, match="have none"):
        fit(asked(tmp_path, labelled=1), blocks.dataset(4, labels=False))


def test_positions_have_three_numbers_at_most():
    with pytest.raises(ValueError, match="position=4"):
        SlotConfig(position=4)

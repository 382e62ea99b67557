"""The world model without labels: what it finds in pictures, what it takes and gives, and what it learns from."""

import json
from dataclasses import replace

import blocks
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.agents.fit.slots import stages
from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.command import fit
from dream_env.agents.fit.slots.encoded import fill
from dream_env.dream import DreamEnv
from dream_env.dream_config import DreamConfig
from dream_env.engine import DreamEngine
from dream_env.files import write_json
from dream_env.initial_states import FILE, InitialStates
from dream_env.language import embed, embedder
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import with_goal
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE

SHORT = {
    "updates": 2,
    "distance_updates": 2,
    "own_updates": 2,
    "picture_size": 32,
    "width": 16,
    "batch": 4,
    "ahead": 2,
    "held_out": 0.2,
}


def fitted(out, data, **changes):
    return fit(Arguments(data=(), out=out, **(SHORT | changes)), data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = blocks.dataset(80)
    return fitted(tmp_path_factory.mktemp("slots"), data).model, data


@pytest.fixture
def model(run):
    return run[0]


def observed(data, rows):
    words = torch.from_numpy(np.stack([embed(str(data.instruction[i])) for i in rows]))
    frames = data.offsets[rows]
    return {n: torch.from_numpy(np.array(part[frames])) for n, part in data.observation.items()} | {
        "instruction": words
    }


def starts_of(data):
    return InitialStates(
        observation={name: np.array(part[data.offsets[:-1]]) for name, part in data.observation.items()},
        goal_observation=data.goal,
        goal=np.arange(len(data)),
        task=data.task,
        instruction=data.instruction,
        step=np.zeros(len(data), np.int64),
    )


def test_things_that_move_by_themselves_become_slots_and_the_robot_does_not(run):
    model, _ = run
    shown = (255 * model.painter.shown).round().int().tolist()
    assert sorted(shown) == sorted(map(list, blocks.COLORS.values()))


def test_a_slot_is_where_its_thing_is(run):
    model, data = run
    pose = torch.from_numpy(data.labels["pose"][data.offsets[:-1]]).flatten(1).unflatten(1, (2, 2))
    red = int(model.painter.shown[:, 0].argmax())
    slots = model.encode(observed(data, np.arange(len(data))))["slots"]
    free = slots[:, red, SIZE] > 0.3  # the hand is not before it
    assert free.sum() > 5
    assert (slots[free, red, :2] - pose[free, 0]).abs().max() < 0.1


def test_a_step_gives_a_state_and_a_prediction_of_every_row(run):
    model, data = run
    state = model.encode(observed(data, np.arange(6)))
    state = with_goal(model, state, model.embedding(state))
    after, told = model.step(state, torch.rand(6, 2), torch.rand(6, model.noise_dim))
    assert after.keys() == state.keys() and all(after[name].shape == state[name].shape for name in state)
    assert model.embedding(after).shape == (6, model.embedding_dim)
    assert told.success.shape == told.disagreement.shape == (6,) and (told.disagreement > 0).all()
    assert told.reward is None and told.terminated is None


def test_a_row_is_the_same_alone_and_among_others(run):
    model, data = run
    state, action, noise = model.encode(observed(data, np.arange(5))), torch.rand(5, 2), torch.rand(5, 1)
    state = with_goal(model, state, model.embedding(state))
    together, told = model.step(state, action, noise)
    alone, said = model.step({k: v[2:3] for k, v in state.items()}, action[2:3], noise[2:3])
    for name in alone:
        assert torch.allclose(alone[name], together[name][2:3], atol=1e-5)
    assert torch.allclose(told.success[2:3], said.success, atol=1e-5)


def test_without_noise_or_temperature_the_likeliest_is_taken(run):
    model, data = run
    state, action = model.encode(observed(data, np.arange(4))), torch.rand(4, 2)
    mean = model.step(state, action)[0]["slots"]
    assert torch.equal(mean, model.step(state, action, torch.rand(4, 1), temperature=0.0)[0]["slots"])
    assert not torch.equal(mean, model.step(state, action, torch.rand(4, 1))[0]["slots"])


@pytest.mark.parametrize("member", [0, 1])
def test_a_member_goes_on_from_what_it_remembers_itself(run, member):
    model, data = run
    state, members = model.encode(observed(data, np.arange(4))), model.config.members
    chosen = torch.full((4, 1), (member + 0.5) / members)
    slots, memory, own = state["slots"], torch.zeros(members, *state["slots"].shape[:2], model.config.memory), None
    for _ in range(3):
        action = torch.rand(4, 2)
        own = model.own_of(state).expand(members, 4, -1)
        done = model.normalized(action).expand(members, 4, -1)
        outcomes, _ = model.dynamics(
            slots.expand(members, *slots.shape), memory, own, done, model.place(own), model.place
        )
        change = outcomes.pick(outcomes.drawn(torch.full((4,), 0.5), torch.tensor(1.0)))[0][member]
        memory = outcomes.pick(outcomes.nearest(change))[1]
        slots = model.moved(slots, change)
        state, _ = model.step(state, action, chosen)
        torch.testing.assert_close(state["slots"], slots)
    assert memory[0].any() and not torch.allclose(memory[0], memory[1])


def test_what_is_hidden_stays_where_it_was_predicted(run):
    model, data = run
    seen = observed(data, np.arange(1))
    state = model.encode(seen)
    covered = seen | {"camera0": torch.full_like(seen["camera0"], 210)}
    assert not model.encode(covered)["slots"].any()
    kept = model.encode(covered, state)["slots"]
    there = state["slots"][..., SEEN] > 0
    assert torch.equal(kept[..., :2], state["slots"][..., :2]) and not kept[..., SIZE].any()
    assert torch.equal(kept[..., SEEN] > 0, there) and there.any()


def test_the_embedding_depends_on_the_sentence_and_asks_for_one(run):
    model, data = run
    seen = observed(data, np.arange(3))
    state, other = model.encode(seen), model.encode(seen | {"instruction": seen["instruction"].flip(0) + 1})
    assert not torch.allclose(model.embedding(state), model.embedding(other))
    with pytest.raises(ValueError, match="instruction"):
        model.embedding({name: part for name, part in state.items() if name != "instruction"})


def test_a_goal_without_vectors_gets_them_from_its_picture(run):
    model, data = run
    goal = model.encode({"camera0": torch.from_numpy(data.goal["camera0"])})
    assert goal["hand"].shape == (len(data), 2) and (goal["hand"].abs() <= 1).all()


def test_pictures_are_drawn_with_things_where_they_are(run):
    model, data = run
    state = model.encode(observed(data, np.arange(4)))
    blue = int(model.painter.shown[:, 2].argmax())
    state["slots"] = torch.zeros_like(state["slots"])
    state["slots"][:, blue, :2] = torch.tensor([0.5, -0.5])
    state["slots"][:, blue, 2:FEATURES] = torch.tensor([0.35, 0.1, 0.1, 1.0])
    drawn = model.decode(state)["camera0"]
    assert drawn.shape == (4, blocks.SIDE, blocks.SIDE, 3) and drawn.dtype == torch.uint8
    assert (drawn[:, 8, 24].float() - torch.tensor(blocks.COLORS["blue"])).abs().max() < 3


def test_a_model_is_read_as_it_was_written(run, tmp_path):
    model, data = run
    checkpoint.save(model, tmp_path, "card")
    again, seen = checkpoint.load(tmp_path), observed(data, np.arange(4))
    one, other = model.encode(seen), again.encode(seen)
    assert torch.equal(one["slots"], other["slots"]) and torch.equal(model.embedding(one), again.embedding(other))


def test_dreams_pay_the_squared_distance_to_the_goal_under_the_same_sentence(run, tmp_path):
    model, data = run
    states = starts_of(data)
    env = DreamEnv(world_model=model, initial_states=states)
    obs, _ = env.reset(seed=1)
    _, reward, *_, info = env.step(np.zeros(2, np.float32))
    assert reward == pytest.approx(-info["distance"]) and info["distance"] > 0
    goals = states.goals(model, np.arange(len(data)))
    assert any(np.allclose(obs["goal"], one, atol=1e-5) for one in model.embedding(goals).numpy())


def test_success_is_told_by_the_goal_that_is_shown(run):
    model, data = run
    states, last = starts_of(data), data.offsets[1:] - 1
    engine = DreamEngine(DreamConfig.of({"world_model": model, "initial_states": states}))
    carry = engine.begin(np.arange(8))
    still = torch.zeros(8, 2)
    own = engine.advance(carry, still)[1]["success_probability"]
    goal = {name: torch.from_numpy(np.array(part[:8])).flip(0) for name, part in data.goal.items()}
    other = engine.begin(np.arange(8), goal=goal)
    assert not torch.allclose(own, engine.advance(other, still)[1]["success_probability"])
    state = model.encode(observed(data, np.arange(8)))
    with pytest.raises(ValueError, match="'goal'"):
        model.success(state)
    assert model.step(state, still)[1].success is None and len(last) > 8


def test_success_is_learned_of_the_end_and_its_own_goal(tmp_path):
    fit_of_goals = fitted(tmp_path, blocks.dataset(40), distance_updates=150, updates=1)
    told = fit_of_goals.figures["success"]
    assert fit_of_goals.model.success_by_goal and told["found"] - told["other_goal"] > 0.3


def test_models_that_were_fitted_before_goals_told_success_are_still_read(run, tmp_path):
    old = SlotModel(replace(run[0].config, success_by_goal=False), run[0].spec).eval()
    checkpoint.save(old, tmp_path, "card")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["success_by_goal"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again, state = checkpoint.load(tmp_path), old.encode(observed(run[1], np.arange(4)))
    assert not again.success_by_goal and torch.equal(old.success(state), again.success(state))
    assert again.step(state, torch.zeros(4, 2))[1].success is not None


def test_pointing_shows_where_the_named_thing_is_and_leaves_the_distance(run):
    model, data = run
    more = SlotModel(replace(model.config, pointing=0.1), model.spec).eval()
    more.load_state_dict(model.state_dict())
    state = model.encode(observed(data, np.arange(6)))
    moved = state | {"slots": state["slots"] + 0.2 * (state["slots"][..., SEEN:] > 0)}
    before, after = more.embedding(state), more.embedding(moved)
    assert before.shape == (6, more.embedding_dim) and more.embedding_dim > model.embedding_dim
    assert torch.equal(before[:, : model.embedding_dim], model.embedding(state))
    shown = before[:, model.embedding_dim :]
    named = model.phi.attention(state["instruction"]).mean(0).argmax(-1)[:, 0]
    torch.testing.assert_close(shown[:, :2], 0.1 * state["slots"][torch.arange(6), named, :2])
    assert (after[:, model.embedding_dim :] - shown).square().sum(-1).max() < 0.01
    goal = model.embedding(moved)
    told = (model.success(with_goal(model, state, goal)), more.success(with_goal(more, state, after)))
    torch.testing.assert_close(*told)


def test_the_order_of_words_counts_where_it_is_asked_for(run):
    model, _ = run
    ordered = SlotModel(replace(model.config, word_order=True), model.spec)
    one, other = "put the red block on the blue block", "put the blue block on the red block"
    assert np.allclose(embedder(model)(one), embedder(model)(other), atol=1e-6)
    assert np.linalg.norm(embedder(ordered)(one) - embedder(ordered)(other)) > 0.5


def test_a_fit_goes_on_from_another_model_and_leaves_what_gets_no_updates(run, tmp_path):
    model, data = run
    checkpoint.save(model, tmp_path / "base", "card")
    how = {"init": str(tmp_path / "base"), "updates": 0, "own_updates": 0, "pointing": 0.3, "word_order": True}
    again = fitted(tmp_path / "again", data, **how).model
    before, after = model.state_dict(), again.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"phi", "success_net"} and again.config.pointing and again.config.width == model.config.width
    write_json(tmp_path / "base" / "metrics.json", {"held_out_seeds": data.seed[[3, 5, 40]].tolist()})
    onward = fit(Arguments(data=(), out=tmp_path / "on", **(SHORT | how)), data)
    assert onward.figures["held_out_seeds"] == data.seed[[3, 5, 40]].tolist(), "what the base has not seen"
    ending = fitted(tmp_path / "ending", replace(data, terminated=np.ones(len(data), bool)), **how)
    checkpoint.save(ending.model, tmp_path / "ends", "card")
    assert fitted(tmp_path / "endless", data, **how | {"init": str(tmp_path / "ends")}).model.config.terminates
    with pytest.raises(ValueError, match="init"):
        fitted(tmp_path / "wrong", blocks.dataset(8, cameras=2), init=str(tmp_path / "base"))


def test_relit_pictures_keep_what_moves_and_its_state_is_read_under_other_light(run, tmp_path):
    model, data = run
    frames = np.arange(0, int(data.offsets[-1]), 9)
    shown = torch.from_numpy(np.array(data.observation["camera0"][frames]))[:, None]
    other = stages.relit(model, shown, torch.Generator().manual_seed(0))
    assert other.shape == shown.shape and other.dtype == torch.uint8
    thing = model.reader.masks(shown[:, 0]).sum(-1) > 0.9  # what is a thing's is still the same one's, only darker
    told = [model.reader.masks(part[:, 0]).argmax(-1)[thing] for part in (shown, other)]
    assert (told[0] == told[1]).float().mean() > 0.95
    ground = ~thing & ((shown[:, 0].flatten(1, 2).float() - 210).abs().amax(-1) < 8)
    assert (other.float() - shown.float()).abs().amax(-1)[:, 0].flatten(1)[ground].median() > 20
    checkpoint.save(model, tmp_path / "base", "card")
    hand = torch.from_numpy(np.array(data.observation["hand"][frames]))
    off = {}
    for share in (0.0, 0.5):
        how = {"init": str(tmp_path / "base"), "updates": 0, "distance_updates": 0, "own_updates": 150}
        again = fitted(tmp_path / str(share), data, **how, relight=share).model
        off[share] = (again.encode({"camera0": other[:, 0]})["hand"] - hand).abs().mean()
    assert off[0.5] < 0.9 * off[0.0]


def test_no_label_is_read(tmp_path):
    one, other = (fitted(tmp_path / str(labels), blocks.dataset(10, labels=labels)).model for labels in (True, False))
    assert other.state_dict().keys() == one.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_fit_that_was_killed_at_its_end_gives_the_same_weights(tmp_path):
    data = blocks.dataset(10)
    whole = fitted(tmp_path / "whole", data).model
    (tmp_path / "whole" / "model.safetensors").unlink()
    fitted(tmp_path / "whole", data)  # again: nothing is left to train
    again = checkpoint.load(tmp_path / "whole")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("case", ["two cameras", "nothing but pictures and actions"])
def test_any_data_set_with_pictures_is_fitted(case, tmp_path):
    cameras = 2 if case == "two cameras" else 1
    data = blocks.dataset(8, cameras=cameras)
    if case != "two cameras":  # no sentence, no mark, no goal, no vector, choices as actions, rewards
        bare = WorldSpec("bare", spaces.Dict({"camera0": data.spec.observation["camera0"]}), spaces.Discrete(3))
        frames = int(data.offsets[-1])
        data = replace(
            data,
            spec=bare,
            observation={"camera0": data.observation["camera0"]},
            action=np.arange(frames) % 3,
            reward=np.ones(frames, np.float32),
            terminated=np.ones(len(data), bool),
            success=None,
            goal={},
            labels={},
        )
    model = fitted(tmp_path, data).model
    env = DreamEnv(world_model=tmp_path, render_mode="rgb_array")
    env.reset(seed=0)
    _, reward, *_ = env.step(env.action_space.sample())
    assert np.isfinite(reward) and env.render().shape[2] == 3
    assert model.cameras == cameras and InitialStates.load(tmp_path / FILE).goal_observation
    assert (model.config.rewards, model.own) == ((False, 2) if cameras == 2 else (True, 0))


def test_hidden_slots_are_filled_in_between_two_looks():
    slots = torch.zeros(5, 1, 1, FEATURES)
    slots[1, 0, 0] = torch.tensor([0.0, 0.0, 0.4, 0.1, 0.1, 1.0])
    slots[3, 0, 0] = torch.tensor([1.0, 0.5, 0.4, 0.1, 0.1, 1.0])
    fill(slots, slots[..., SEEN] > 0, torch.tensor([0]), torch.tensor([4]))
    assert not slots[0].any()
    assert slots[2, 0, 0].tolist() == pytest.approx([0.5, 0.25, 0.0, 0.1, 0.1, 1.0])
    assert slots[4, 0, 0].tolist() == pytest.approx([1.0, 0.5, 0.0, 0.1, 0.1, 1.0])


def test_the_path_loss_makes_a_chain_of_states_one_step_apart():
    from dream_env.agents.fit.slots.stages import path_loss

    distance = torch.ones(1, 6, requires_grad=True)
    optimizer = torch.optim.Adam([distance], 0.05)
    for _ in range(600):
        to_goal = torch.cat([distance.abs(), torch.zeros(1, 1)], 1)
        loss = path_loss(to_goal[:, :-1], to_goal[:, 1:], 30.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distance.detach().abs()[0].tolist() == pytest.approx([6, 5, 4, 3, 2, 1], abs=0.8)


def test_worlds_without_pictures_are_told_so():
    bare = WorldSpec("vectors", spaces.Dict({"state": spaces.Box(-1, 1, (2,), np.float32)}), spaces.Discrete(2))
    with pytest.raises(ValueError, match="no picture"):
        SlotModel(SlotConfig(), bare)


@pytest.mark.parametrize(("name", "value"), [("slots", 0), ("picture_size", 40)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SlotConfig(**{name: value})


def test_a_kept_embedding_stays_whatever_else_is_asked(run, tmp_path):
    model, data = run
    checkpoint.save(model, tmp_path / "base", "card")
    how = {"init": str(tmp_path / "base"), "keep_embedding": True, "own_updates": 5, "pointing": 0.3}
    again = fitted(tmp_path / "again", data, **how).model
    shown = observed(data, np.arange(6))
    for seen in (shown, {name: part for name, part in shown.items() if name != "hand"}):  # goals are pictures alone
        assert torch.equal(again.embedding(again.encode(seen)), model.embedding(model.encode(seen)))
    with pytest.raises(ValueError, match="width=.* with init=.*; accepted: its own"):
        fitted(tmp_path / "wide", data, **how, width=2 * model.config.width)
    with pytest.raises(ValueError, match="keep_embedding=True without init"):
        Arguments(data=(), out=tmp_path, keep_embedding=True)

"""The policy that imagines: the flow learns what comes, what acts goes there, and actions are where a vector goes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from dataset import make_episode
from PIL import Image
from test_clone_any import SMALL, data, evaluated_and_practised, world  # noqa: F401  (fixtures)
from test_transformer_vla import config as sizes
from test_transformer_vla import observations

from dream_env.agents.clone import transformer_clone, video_clone
from dream_env.agents.clone.encoded_frames import encode
from dream_env.agents.clone.video_arguments import Arguments
from dream_env.agents.clone.video_clone import Batches, Cloning, futures, per_action
from dream_env.agents.eval import imagined
from dream_env.agents.policies import registry
from dream_env.agents.policies.future_flow import FutureFlow
from dream_env.agents.policies.protocol import Policy, Practicable
from dream_env.agents.policies.video import VideoVLA, VideoVLAConfig
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.world_models import checkpoint


def made(seed=0, **changes):
    torch.manual_seed(seed)
    policy = VideoVLA(VideoVLAConfig(**{**vars(sizes(compares=True, depth=1)), "ahead": 2, **changes})).eval()
    for part in (policy.flow.leave, *([policy.flow.leave_path] if policy.flow.path else [])):
        torch.nn.init.normal_(part.weight, std=0.3)  # it begins with zeros
    return policy


def tensors(count, **kwargs):
    return {name: torch.from_numpy(part) for name, part in observations(count, **kwargs).items()}


@pytest.fixture
def args(world, tmp_path):  # noqa: F811
    return Arguments(data=(world[0],), out=tmp_path / "out", world_model=world[1], ahead=2, **SMALL)


@pytest.fixture(scope="module")
def drawing():
    """Episodes of NICOL, and a toy world model that can draw embeddings of 64 tokens."""

    class Model(toy.ToyWorldModel):
        def restore(self, observation):
            tokens = observation["embedding"].unflatten(-1, (-1, 16))
            return self.state_of(tokens, observation.get("proprio"), observation.get("instruction"))

    return Model(), EpisodeDataset.stack([make_episode(i).general() for i in range(2)], SPEC)


@pytest.mark.parametrize("tokens", [1, 4])
def test_a_flow_finds_both_of_two_futures_and_one_pass_their_mean(tokens):
    torch.manual_seed(0)
    shape = sizes(tokens=tokens, channels=3, language="none", depth=1, width=32)
    flow, generator = FutureFlow(shape, moments=1), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    obs = {"embedding": torch.zeros(64, 3 * tokens), "state": torch.zeros(64, 3)}
    for _ in range(150):
        side = 2.0 * torch.randint(2, (64, 1), generator=generator) - 1
        loss = flow.loss(obs, side.expand(-1, 3 * tokens), generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = torch.randn(64, flow.numbers, generator=generator)
    drawn = flow.generate(obs, 8, noise).detach()
    assert (drawn.abs() - 1).abs().mean() < 0.3 and 0.2 < (drawn[:, 0] > 0).float().mean() < 0.8
    assert flow.generate(obs, 1)[:, 0].abs().mean() < 0.3


def test_what_is_packed_is_unpacked_in_units_of_its_spread():
    flow = FutureFlow(sizes(), moments=2, path=6)
    changes, path = torch.randn(50, 2, 45) * torch.tensor([[1.0], [5.0]]), 0.1 * torch.randn(50, 6)
    flow.measure(changes, path)
    packed = flow.packed(changes, path)
    assert packed.shape == (50, flow.numbers) and packed.square().mean() == pytest.approx(1, abs=0.05)
    for part, again in zip((changes, path), flow.unpacked(packed), strict=True):
        torch.testing.assert_close(again, part)


@pytest.mark.parametrize("changes", [{}, {"goal": True, "head": "k"}, {"feature": "onepass", "end": True}])
def test_it_acts_on_what_it_imagines(changes):
    policy, obs = made(**changes), observations(4)
    assert isinstance(policy, Policy) and isinstance(policy, Practicable)
    assert policy.propose(obs, 3).shape == (4, 3, 3, 2)
    policy.reset()
    seen = tensors(4)
    future = torch.from_numpy(policy.imagine(obs))
    assert future.shape == (4, 45)
    there = policy.reaching(seen, future).detach().numpy()
    np.testing.assert_allclose(policy.act(obs), there, atol=1e-5)
    with torch.no_grad():
        policy.flow.place *= -1
    policy.reset()
    assert np.abs(policy.act(obs) - there).max() > 1e-4
    if policy.config.end:
        assert np.abs(policy.imagine(obs, end=True) - policy.imagine(obs)).max() > 1e-3
    else:
        with pytest.raises(ValueError, match="end=True"):
            policy.imagine(obs, end=True)


def test_practice_leaves_the_generator_as_it_is():
    policy = made()
    policy(tensors(3)).sum().backward()
    assert policy.head.mean.weight.grad is not None
    assert all(part.grad is None for part in policy.flow.parameters())


def test_actions_are_where_a_vector_goes():
    shape = {"vectors": {"state": 2}, "displaced": "state", "per_action": (0.5, 0.1)}
    policy = made(**shape)
    path = torch.tensor([[0.25, 0.1, 0.0, 0.3, 1.0, 0.3]])  # three places, relative to now
    np.testing.assert_allclose(policy._displacing(path)[0], [[0.5, 1.0], [-0.5, 2.0], [1.0, 0.0]], atol=1e-6)
    obs = observations(2) | {"state": observations(2)["state"][:, :2]}
    seen = {name: torch.from_numpy(part) for name, part in obs.items()}
    first = policy._displacing(policy.imagined(seen)[1])[:, 0]
    np.testing.assert_allclose(policy.act(obs), first.detach(), atol=1e-6)
    noise = torch.randn(2, 3, policy.noise_numbers)
    chunks = policy.propose(obs, 3, noise)
    assert chunks.shape == (2, 3, 3, 2) and policy.has_modes and np.abs(chunks[:, 1] - chunks[:, 0]).max() > 1e-3
    np.testing.assert_array_equal(chunks, policy.propose(obs, 3, noise))
    policy(seen).sum().backward()
    assert any(part.grad is not None for part in policy.flow.parameters())


def test_by_how_much_an_action_moves_is_measured(data):  # noqa: F811
    moved = replace(data, observation=data.observation | {"place": data.observation["state"][:, :2].copy()})
    rng = np.random.default_rng(0)
    moved.action = rng.uniform(-2, 2, moved.action.shape).astype(np.float32)
    place = np.cumsum(moved.action * [0.5, 0.1], 0) - moved.action * [0.5, 0.1]
    moved.observation["place"] = place.astype(np.float32)
    assert per_action(moved, "place") == pytest.approx((0.5, 0.1), abs=1e-4)
    moved.observation["place"] = rng.normal(size=place.shape).astype(np.float32)
    for wrong in ("place", "force"):
        with pytest.raises(ValueError, match="displaced"):
            per_action(moved, wrong)


def test_imagining_is_learned_from_what_succeeded_or_was_demonstrated(args, data):  # noqa: F811
    how = Cloning(replace(args, demonstrations=3), data)
    others, chosen = data.seed[how.others], set(data.seed[how.others][how.videos()])
    assert not set(how.aside) & set(how.others) and len(others) == 11
    assert chosen == ({0, 1, 4, 5, 8, 9} | set(data.seed[how.rows])) - set(data.seed[how.aside])
    how.args = replace(how.args, videos="demonstrations")
    assert set(others[how.videos()]) == set(data.seed[how.rows]) and how.from_all
    how.args = replace(how.args, hindsight=0.0)
    assert not how.from_all


def test_futures_are_those_of_the_episode(world, data):  # noqa: F811
    frames, policy = encode(checkpoint.load(world[1]), data), made(end=True)
    rows = torch.tensor([0, int(frames.last[0]) - 1])
    changes, path = futures(frames, rows, policy)
    now, end = frames.embedding[rows].float(), frames.embedding[frames.last[:1]].float()
    torch.testing.assert_close(changes[0, 0] + now[0], frames.embedding[2].float())
    torch.testing.assert_close(changes[:, 1] + now, end.expand(2, -1))
    torch.testing.assert_close(changes[1, 0] + now[1], end[0])
    assert path.shape == (2, 0)


def test_demonstrations_get_imagined_goals_and_hindsight_true_ones(args, data):  # noqa: F811
    how, model = Cloning(args, data), checkpoint.load(args.world_model)
    frames = encode(model, data)
    policy = VideoVLA(how.config(model))
    batches = Batches(args, frames, None, frames, frames)
    seen = []
    policy.loss = lambda obs, chunk, known, generator=None: (
        seen.append(obs["goal"]),
        torch.zeros(len(chunk), requires_grad=True),
    )[1]
    policy.imagined = lambda obs, noise=None: (torch.full((len(noise), 1, obs["embedding"].shape[1]), 7.0), None)
    batches.loss(policy, torch.Generator().manual_seed(0))
    goal = seen[0]
    assert (goal[:4] == 7).all()
    apart = (goal[4:, None] - frames.embedding.float()).abs().amax(-1).amin(1)
    assert len(goal) == 8 and (apart < 1e-6).all()


@pytest.mark.parametrize(
    "changes", [{}, {"goal": True, "feature": "onepass", "head": "flow", "videos": "demonstrations", "hindsight": 0.0}]
)
def test_it_is_cloned_evaluated_and_practised(args, world, tmp_path, changes):  # noqa: F811
    video_clone.main(replace(args, **changes))
    found = registry.load(args.out)
    assert isinstance(found, VideoVLA) and found.config.goal == bool(changes)
    practised = evaluated_and_practised(args.out, world, tmp_path / "practised")
    assert torch.equal(practised.flow.place, found.flow.place)


def test_the_episode_that_is_drawn_is_held_out_from_all_folders(args, data, monkeypatch):  # noqa: F811
    monkeypatch.setattr(EpisodeDataset, "load", lambda *folders: data.take(slice(0, 4 * len(folders))))
    args, drawn = replace(args, data=(args.data[0], args.out.parent), demonstrations=8), []
    monkeypatch.setattr(imagined, "can_draw", lambda model: True)
    monkeypatch.setattr(imagined, "strip", lambda policy, model, data, episode: drawn.append(episode) or ({}, []))
    monkeypatch.setattr(imagined, "labelled", lambda *_: Image.new("RGB", (1, 1)))
    video_clone.main(args)
    assert drawn == [Cloning(args, data.take(slice(0, 8))).aside[0]]


def test_a_killed_run_goes_on_in_its_second_stage_and_ends_as_one_without_a_pause(args, data, tmp_path, monkeypatch):  # noqa: F811
    model, made_run = checkpoint.load(args.world_model), transformer_clone.Run
    whole, _ = transformer_clone.clone(args, [data], model, Cloning)
    monkeypatch.setattr(transformer_clone, "Run", lambda *a, **k: made_run(*a, **k, save_seconds=0))
    inner, losses = Batches.loss, []

    def killed(self, *rest):
        if len(losses) == 2:
            raise KeyboardInterrupt
        losses.append(1)
        return inner(self, *rest)

    again = replace(args, out=tmp_path / "again")
    monkeypatch.setattr(Batches, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        transformer_clone.clone(again, [data], model, Cloning)
    monkeypatch.setattr(Batches, "loss", inner)
    resumed, _ = transformer_clone.clone(again, [data], model, Cloning)
    for name, part in whole.state_dict().items():
        assert torch.equal(part, resumed.state_dict()[name]), name


def test_imagined_pictures_stand_beside_what_happened(drawing):
    model, episodes = drawing
    shape = {"tokens": 64, "channels": 16, "vectors": {"proprio": 4}, "action_low": (-1.0,) * 4}
    policy = made(**shape, action_high=(1.0,) * 4)
    with torch.no_grad():
        policy.flow.change.zero_()  # imagines that nothing changes
    rows, steps = imagined.strip(policy, model, episodes, 1, count=3)
    frames = np.asarray(episodes[1].observation["pixels"])
    seen, drawn, later = rows.values()
    assert list(rows) == ["seen", "imagined\n2 steps on", "seen\n2 steps on"] and drawn.shape == seen.shape
    np.testing.assert_array_equal(seen, frames[steps])
    np.testing.assert_array_equal(later, frames[steps + 2])
    true = model.decode(model.encode({"pixels": torch.from_numpy(frames[:1])}))["pixels"][0].numpy()
    assert np.abs(drawn[0].astype(int) - true).max() <= 2
    picture = np.asarray(imagined.labelled(rows, steps, "lift the cube", side=64))
    corner = picture[-64 - imagined.GAP : -imagined.GAP, -64 - imagined.GAP : -imagined.GAP]
    np.testing.assert_array_equal(corner, later[-1])
    with pytest.raises(ValueError, match="restore"):
        imagined.strip(policy, toy.ToyWorldModel(), episodes, 0)


def test_no_pictures_are_imagined_where_an_embedding_alone_tells_no_state(drawing, monkeypatch):
    assert imagined.can_draw(drawing[0])
    monkeypatch.setattr(drawing[0], "state_spaces", {"memory": None}, raising=False)
    assert not imagined.can_draw(drawing[0])


def test_wrong_values_are_refused(args):
    for wrong in ({"hindsight": 1.0}, {"feature": "best"}, {"videos": "all"}, {"steps": 0}, {"imagine_updates": 0}):
        with pytest.raises(ValueError, match="accepted"):
            replace(args, **wrong)
    for wrong in ({"displaced": "state"}, {"compares": False}, {"displaced": "force"}):
        with pytest.raises(ValueError, match="accepted"):
            made(**wrong)

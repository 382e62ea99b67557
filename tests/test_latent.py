"""The policy that foresees: its actions show nothing of it but what it has learned, and no future leaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_clone_any import SMALL, data, evaluated_and_practised, world  # noqa: F401  (fixtures)
from test_transformer_vla import config as sizes
from test_transformer_vla import observations

from dream_env.agents.clone import latent_clone, transformer_clone
from dream_env.agents.clone.batches import shown
from dream_env.agents.clone.encoded_frames import encode
from dream_env.agents.clone.latent_arguments import Arguments
from dream_env.agents.clone.latent_clone import Cloning, foreseeable
from dream_env.agents.clone.transformer_arguments import Arguments as PlainArguments
from dream_env.agents.policies import registry
from dream_env.agents.policies.latent import LatentVLA, LatentVLAConfig
from dream_env.agents.policies.protocol import Policy, Practicable
from dream_env.agents.policies.transformer_vla import TransformerVLA
from dream_env.world_models import checkpoint


def made(**changes):
    torch.manual_seed(0)
    return LatentVLA(LatentVLAConfig(**{**vars(sizes(depth=2)), "queries": 3, "ahead": 2, **changes})).eval()


def tensors(count, **kwargs):
    return {name: torch.from_numpy(part) for name, part in observations(count, **kwargs).items()}


@pytest.fixture
def args(world, tmp_path):  # noqa: F811
    return Arguments(data=(world[0],), out=tmp_path / "out", world_model=world[1], ahead=2, **SMALL)


def test_queries_do_not_change_what_it_does_and_see_what_it_sees():
    policy, obs = made(), tensors(4)
    torch.manual_seed(0)
    plain = TransformerVLA(sizes(depth=2)).eval()
    assert isinstance(policy, Policy) and isinstance(policy, Practicable)
    assert torch.equal(policy(obs), plain(obs))
    both = policy.trunk.gather(obs, policy.queries)
    assert both.shape[1] == 6
    torch.testing.assert_close(both[:, :3], policy.trunk.gather(obs))
    foreseen = policy.foreseen(obs)
    with torch.no_grad():
        policy.trunk.latents += 0.1 * torch.randn_like(policy.trunk.latents)
    assert not torch.allclose(policy.foreseen(obs), foreseen, atol=1e-4)
    with torch.no_grad():
        policy.trunk.latents.copy_(plain.trunk.latents)
        policy.queries *= -1  # a shift would be lost in LayerNorm
    assert torch.equal(policy(obs), plain(obs)) and not torch.allclose(policy.foreseen(obs), foreseen, atol=1e-4)


def test_the_future_teaches_the_network_that_acts_and_is_not_taught():
    policy, obs = made(), tensors(4)
    later = torch.randn(4, 45, requires_grad=True)
    policy.future_loss(obs, obs["embedding"], later).mean().backward()
    assert later.grad is None
    assert policy.trunk.latents.grad.abs().max() > 0 and policy.head.mean.weight.grad is None


def test_changes_of_every_channel_count_alike_whatever_their_spread():
    policy, spread = made(), torch.tensor([0.1, 1.0, 10.0, 1.0, 1.0]).repeat(9)
    now, way = torch.randn(400, 45), torch.randn(400, 45) * spread
    policy.measure(now, now + way)
    torch.testing.assert_close(policy.change, spread[:5], rtol=0.1, atol=0.5)
    with torch.no_grad():
        policy.future[-1].weight.zero_()
        policy.future[-1].bias.zero_()
    obs = tensors(400)
    assert policy.future_loss(obs, now, now + way).mean().item() == pytest.approx(0.85, abs=0.1)
    np.testing.assert_array_equal(policy.imagine(observations(2)), observations(2)["embedding"])


@pytest.mark.parametrize("head", ["gaussian", "flow"])
def test_without_the_future_it_is_the_plain_policy_bit_for_bit(args, data, tmp_path, head):  # noqa: F811
    model = checkpoint.load(args.world_model)
    args = replace(args, head=head, goal=True, hindsight=0.25)
    control, _ = transformer_clone.clone(replace(args, future_weight=0), [data], model, Cloning)
    own = {k: v for k, v in vars(args).items() if k not in ("future_weight", "ahead", "queries", "out")}
    plain_args = PlainArguments(**own, out=tmp_path / "plain")
    plain, _ = transformer_clone.clone(plain_args, [data], model)
    foresees, _ = transformer_clone.clone(replace(args, out=tmp_path / "foresees"), [data], model, Cloning)
    for name, part in plain.state_dict().items():
        assert torch.equal(part, control.state_dict()[name]), name
    assert not torch.equal(plain.trunk.latents, foresees.trunk.latents)


def test_the_same_demonstrations_are_drawn_with_and_without_foreseeing(args, data):  # noqa: F811
    frames = encode(checkpoint.load(args.world_model), data)
    policy = LatentVLA(Cloning(args, data).config(checkpoint.load(args.world_model)))
    drawn = []
    for weight in (0.0, 1.0):
        batches = latent_clone.Batches(replace(args, future_weight=weight), frames, None, frames)
        generator, rows = torch.Generator().manual_seed(0), []
        inner = batches._drawn
        batches._drawn = lambda *a, inner=inner, rows=rows, **k: (found := inner(*a, **k), rows.append(found[1]))[0]
        for _ in range(3):
            batches.loss(policy, generator)
        drawn.append(torch.cat(rows))
    assert torch.equal(*drawn)


def test_nothing_of_the_future_is_in_what_the_policy_sees(args, data):  # noqa: F811
    """Later pictures and vectors of every episode are shuffled: inputs and actions stay, what is to be foreseen not."""
    model, step = checkpoint.load(args.world_model), 2
    policy, _ = transformer_clone.clone(args, [data], model, Cloning)
    frames, rng = encode(model, data), np.random.default_rng(0)
    rows = torch.from_numpy(data.offsets[:-1] + step)
    order = np.arange(data.offsets[-1])
    for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        order[begin + step + 1 : end] = rng.permutation(order[begin + step + 1 : end])
    shuffled = replace(data, observation={name: part[order] for name, part in data.observation.items()})
    again = encode(model, shuffled)
    seen, other = ({k: v.numpy() for k, v in one.observed(rows).items()} for one in (frames, again))
    for name in seen:
        np.testing.assert_array_equal(seen[name], other[name], err_msg=name)
    np.testing.assert_array_equal(policy.act(seen), policy.act(other))
    assert not torch.equal(frames.later(rows, 2), again.later(rows, 2))


def test_only_frames_with_so_many_steps_left_are_foreseen_from(world, data):  # noqa: F811
    frames = encode(checkpoint.load(world[1]), data)
    starts = foreseeable(frames, 5)
    assert (frames.last[frames.episode[starts]] - starts >= 5).all() and len(starts) == 6 + 12
    end = frames.last[:3]
    assert torch.equal(frames.later(end - 1, 4), frames.embedding[end].float())
    with pytest.raises(ValueError, match="ahead=9"):
        foreseeable(frames, 9)


def test_held_out_demonstrations_may_be_shorter_than_what_is_foreseen(args, data):  # noqa: F811
    how = Cloning(replace(args, ahead=6, demonstrations=2, held_out=0.5), data)
    model = checkpoint.load(args.world_model)
    frames = encode(model, data)
    policy = LatentVLA(how.config(model))
    short, long = (frames.take(np.array([i])) for i in (0, 1))
    assert "held_out_future" in how.report(policy, long) and "held_out_future" not in how.report(policy, short)


def test_foreseeing_is_learned_from_episodes_that_nobody_demonstrated(args, data):  # noqa: F811
    """Two demonstrations, and a future that only the others tell: it is better than to expect no change."""
    asked = replace(args, demonstrations=2, updates=150, batch=32, rate=3e-3, noise=0.0, held_out=0.0)
    model, errors = checkpoint.load(args.world_model), []
    frames = encode(model, data)
    rows = foreseeable(frames, 2)
    for updates in (1, 150):
        policy, _ = transformer_clone.clone(
            replace(asked, updates=updates, out=args.out / str(updates)), [data], model, Cloning
        )
        seen = shown(frames.observed(rows), policy.config)
        errors.append(policy.future_loss(seen, frames.embedding[rows].float(), frames.later(rows, 2)).mean().item())
    assert errors[1] < 0.9 * errors[0]


def test_it_is_evaluated_and_practised_as_the_plain_policy(args, world, tmp_path):  # noqa: F811
    latent_clone.main(args)
    found = registry.load(args.out)
    assert isinstance(found, LatentVLA) and found.config.ahead == 2
    practised = evaluated_and_practised(args.out, world, tmp_path / "practised")
    assert torch.equal(practised.queries, found.queries)


def test_wrong_numbers_are_refused(args):
    for wrong in ({"ahead": 0}, {"queries": 0}, {"future_weight": -1}):
        with pytest.raises(ValueError, match="accepted"):
            replace(args, **wrong)

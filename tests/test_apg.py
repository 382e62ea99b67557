"""Practice by the dream's own gradients, in the shipped world model."""

import json
from dataclasses import replace

import pytest
import torch

from dream_env.agents import apg
from dream_env.agents.policies import vla as policy
from dream_env.tensors import TensorDreams


@pytest.fixture
def args(tmp_path):
    return apg.Arguments(tmp_path / "run", updates=2, batch=4, validation_episodes=0)


@pytest.fixture(scope="module")
def dreams():
    return TensorDreams(4, "lift", max_episode_steps=25, differentiable=True, reward="metric", temperature=1.0)


def test_following_the_gradient_of_a_dream_makes_it_better(args, dreams):
    torch.manual_seed(0)
    vla, clone = policy.load(), policy.load().requires_grad_(False)
    optimizer = torch.optim.Adam(vla.parameters(), 5e-5)
    losses = []
    for _ in range(6):
        loss = apg.dream_loss(args, vla, clone, dreams, seed=3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    assert apg.dream_loss(args, vla, clone, dreams, seed=3).item() < losses[0]  # the same seed, the same dreams


def test_gradient_of_one_dream_is_limited(dreams):
    dreams.reset(seed=0)
    action = torch.zeros(4, 4, requires_grad=True)
    dreams.step(action)
    apg.limit_gradient(dreams, 0.5)
    tokens = dreams.state.tokens
    tokens.retain_grad()
    scale = torch.tensor([0.0, 1e-3, 1.0, 1e3])
    (tokens * scale[:, None, None]).sum().backward()
    size = scale * tokens[0].numel() ** 0.5
    assert torch.allclose(tokens.grad.flatten(1).norm(dim=1), size.clamp_max(0.5), rtol=1e-3)


def test_policy_is_written_and_the_run_goes_on(args):
    apg.train(args)
    first = policy.load(args.out).state_dict()
    start = policy.load(args.init).state_dict()
    assert any(not torch.equal(first[name], start[name]) for name in start)
    assert json.loads((args.out / "figures.json").read_text())["seconds"] > 0
    apg.train(args)  # nothing left to do
    again = policy.load(args.out).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        apg.train(replace(args, seed=1))
    assert replace(args, device="cuda").settings() == args.settings(), "a run may go on elsewhere"


def test_a_finished_run_keeps_its_figures_and_can_be_validated_later(args):
    apg.train(replace(args, updates=1))
    told = []
    for _ in range(2):
        assert "success" in apg.train(replace(args, updates=1, validation_episodes=1))
        told.append([(args.out / name).read_text() for name in ("figures.json", "README.md")])
    assert told[0] == told[1] and "| success |" in told[0][1]
    assert "`python -m agents.apg --out " in told[0][1]


def test_what_the_run_reads_is_never_written_over(args, tmp_path):
    policy.save(policy.load("few"), tmp_path / "clone", "card")
    with pytest.raises(ValueError, match="is what the run reads; accepted: a new folder"):
        apg.train(replace(args, init=str(tmp_path / "clone"), out=tmp_path / "clone"))


@pytest.mark.parametrize(
    "change",
    [
        *({name: 0} for name in ("updates", "batch", "rate", "max_gradient")),
        *({name: -1} for name in ("anchor", "success", "temperature", "action_noise", "token_noise", "starts")),
        {"validation_episodes": -1},
    ],
)
def test_bad_numbers_are_named(args, change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}={value}; accepted:"):
        replace(args, **change)

"""Practice by skrl's PPO, on the CPU: the clone rests at first, is paid for outcomes, and a run goes on."""

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("skrl")

from skrl.utils.spaces.torch import unflatten_tensorized_space

from dream_env import files
from dream_env.agents import ppo_gpu
from dream_env.agents.policies import vla as policy
from dream_env.nicol.constants import EPISODE_STEPS


@pytest.fixture
def args(tmp_path):
    small = {"n_envs": 4, "steps": 2 * 4 * EPISODE_STEPS, "warmup": 1, "mini_batches": 2, "validation_episodes": 0}
    return ppo_gpu.Arguments(tmp_path / "run", init="few", device="cpu", **small)


def changed(one, other):
    return [name for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])]


def test_the_actor_rests_during_warm_up_and_moves_after_it(args):
    ppo_gpu.train(replace(args, warmup=2), progress=False)
    assert not changed(policy.load(args.out), policy.load("few"))
    figures = ppo_gpu.train(replace(args, out=args.out / "moved"), progress=False)
    moved = changed(policy.load(args.out / "moved"), policy.load("few"))
    assert "action.weight" in moved and not any("reader" in name for name in moved)
    assert 0 <= figures["dream"] <= 1 and figures["steps"] == args.steps and figures["seconds"] > 0
    assert json.loads((args.out / "moved" / "figures.json").read_text()) == figures


def test_a_run_goes_on_and_refuses_other_settings(args):
    ppo_gpu.train(args, progress=False)
    first, curve = policy.load(args.out), json.loads((args.out / "curve.json").read_text())
    ppo_gpu.train(args, progress=False)  # nothing left to do
    assert not changed(policy.load(args.out), first)
    ppo_gpu.train(replace(args, steps=args.steps + 1), progress=False)
    longer = json.loads((args.out / "curve.json").read_text())
    assert longer[:2] == curve and len(longer) == 3 and changed(policy.load(args.out), first)
    rate = torch.load(args.out / "checkpoint.pt")["optimizer"]["param_groups"][0]["lr"]
    assert rate == pytest.approx(args.rate / 3, rel=0.02), "the last of three rollouts has a third of it"
    with pytest.raises(ValueError, match="holds a run with other settings"):
        ppo_gpu.train(replace(args, anchor=1.0), progress=False)


def test_success_is_paid_at_the_end_of_an_episode_only():
    vla, dreams = policy.load("default"), ppo_gpu.PaidDreams(16, "reach", reward="success", device="cpu", seed=1)
    obs, _ = dreams.reset()
    early = 0
    for step in range(EPISODE_STEPS):
        with torch.no_grad():
            action = vla(unflatten_tensorized_space(dreams.observation_space, obs))
        obs, reward, ends, _, info = dreams.step(action)
        assert ends.all() == (step == EPISODE_STEPS - 1)
        if not ends.any():
            early += int(info["is_success"].sum())
            assert not reward.any()
    assert early, "success was held before the end, and was not paid"
    assert torch.equal(reward[:, 0], info["is_success"].float()) and dreams.share == reward.mean() > 0


def test_entropy_is_minus_the_divergence_to_the_clone(args):
    agent, vla = ppo_gpu.make_agent(args, ppo_gpu.PaidDreams(4, "all", reward="success", device="cpu"))
    space = agent.policy.observation_space
    inputs = {"observations": torch.rand(3, sum(part.shape[0] for part in space.values()))}
    agent.policy.act(inputs, role="policy")
    assert torch.equal(agent.policy.get_entropy(role="policy"), torch.zeros(3, 1))
    with torch.no_grad():
        vla.action.bias += 0.5
    agent.policy.act(inputs, role="policy")
    away = agent.policy.distribution(role="policy").mean - agent.policy.clone(agent.policy._seen)
    divergence = (away / vla.config.std).square().sum(1, keepdim=True) / 2
    assert torch.allclose(agent.policy.get_entropy(role="policy"), -divergence, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        *({name: 0} for name in ("steps", "n_envs", "mini_batches")),
        *({name: -1} for name in ("anchor", "warmup", "rate", "validation_episodes")),
    ],
)
def test_numbers_out_of_range_are_refused(args, change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}={value}; accepted: a finite number, at least"):
        replace(args, **change)


def test_a_kill_between_curve_and_weights_repeats_the_rollout(args, monkeypatch):
    def replace_and_die(part, whole):
        if str(whole).endswith("checkpoint.pt"):
            weights.append(whole)
            if len(weights) == 2:
                raise KeyboardInterrupt
        real(part, whole)

    real, weights = files.os.replace, []
    monkeypatch.setattr(ppo_gpu, "SAVE_EVERY", 1)
    monkeypatch.setattr(files.os, "replace", replace_and_die)
    with pytest.raises(KeyboardInterrupt):
        ppo_gpu.train(args, progress=False)
    monkeypatch.undo()
    assert len(json.loads((args.out / "curve.json").read_text())) == 2
    ppo_gpu.train(args, progress=False)
    assert "action.weight" in changed(policy.load(args.out), policy.load("few")), "only the second one moves the actor"
    steps = [entry["steps"] for entry in json.loads((args.out / "curve.json").read_text())]
    assert steps == [args.steps // 2, args.steps]


def test_what_the_run_reads_is_never_written_over(args, tmp_path):
    policy.save(policy.load("few"), tmp_path / "clone", "card")
    with pytest.raises(ValueError, match="is what the run reads; accepted: a new folder"):
        ppo_gpu.train(replace(args, init=str(tmp_path / "clone"), out=tmp_path / "clone"))
    assert sorted(file.name for file in (tmp_path / "clone").iterdir())[:2] == ["README.md", "config.json"]

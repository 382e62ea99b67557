"""The study of one network in the place of two: what it counts."""

import json
from types import SimpleNamespace

import blocks
import pytest
import torch
from dataset import make_episode, write

from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.fit.slots.arguments import Arguments as SlotArguments
from dream_env.agents.fit.slots.command import fit
from dream_env.agents.policies import registry
from dream_env.agents.policies.transformer_vla import TransformerVLA, TransformerVLAConfig
from dream_env.agents.studies.fused.arguments import Arguments
from dream_env.agents.studies.fused.command import HEAD, Probed, main, success, weights
from dream_env.agents.studies.fused.speed import plain
from dream_env.agents.studies.policies import one_network, rows
from dream_env.agents.studies.policies.arguments import Arguments as Study
from dream_env.world_models import checkpoint
from dream_env.world_models.unified.model import UnifiedModel


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of a base, a unified model around it, and a policy that looks at its embedding."""
    root = tmp_path_factory.mktemp("fused")
    small = {"updates": 1, "distance_updates": 1, "own_updates": 1, "picture_size": 32, "width": 16, "batch": 2}
    fit(SlotArguments(data=(), out=root / "base", ahead=1, held_out=0.2, **small), blocks.dataset(6))
    base = checkpoint.load(root / "base")
    checkpoint.save(UnifiedModel.around(base, width=16, hidden=16, features=8), root / "one", "")
    config = TransformerVLAConfig(
        tokens=1, channels=64, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, vectors={"hand": 2}, width=16, goal=True,
        compares=True, language="sentence",
    )  # fmt: skip
    registry.save(TransformerVLA(config), root / "policy", "")
    return root


def result(label, seed, done, world="physics", **changes):
    told = {"task": "push", "spoken": "", "total": 0.0, "distance": 1.0, "solved_at_start": False} | changes
    return EpisodeResult(label=label, world=world, seed=seed, success=done, **told)


def test_points_are_of_the_same_starts(tmp_path):
    rows = [result("pair", i, i < 10) for i in range(20)] + [result("fused", i, i < 6) for i in range(20)]
    rows += [result("practised", i, i < 9) for i in range(20)] + [result("pair", 99, True, solved_at_start=True)]
    rows += [result("practised", i, True, "dream") for i in range(4)]
    save_results(rows, tmp_path / "episodes.jsonl")
    found = success((tmp_path,), "fused", "pair", "practised")
    assert (found["fused_points_behind"], found["fused_practised_points_behind"]) == (20.0, 5.0)
    assert [row["points"]["value"] for row in found["success"]] == [0.0, pytest.approx(-0.2), pytest.approx(-0.05)]
    assert found["success"][0]["episodes"] == 20 and found["success"][2]["dream"]["value"] == 1.0
    with pytest.raises(ValueError, match="nobody.* were not evaluated"):
        success((tmp_path,), "fused", "nobody")


def test_shares_count_what_both_networks_share_apart(made):
    model, base, policy = (
        checkpoint.load(made / "one"),
        checkpoint.load(made / "base"),
        registry.load(made / "policy"),
    )
    found = weights(model, base, policy)
    count = SimpleNamespace(of=lambda module: sum(p.numel() for p in module.parameters()))
    assert found["parameters"]["pair"]["dynamics"] == count.of(base.dynamics)
    assert found["parameters"]["fused"]["all"] + found["parameters"]["shared"] == count.of(model)
    one, two = count.of(model) - count.of(model.base), count.of(base.dynamics) + count.of(policy)
    assert found["fused_parameters_share"] == pytest.approx(one / two, abs=1e-4)


def test_a_recorded_network_does_what_a_plain_one_does(made):
    model = checkpoint.load(made / "one")
    slow = plain(model)
    model.spec.observation.seed(0)
    rows = [model.spec.observation.sample() for _ in range(3)]
    seen = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
    with torch.inference_mode():
        state = model.encode(seen | {"instruction": torch.rand(3, 64)})
        goal, noise, action = torch.rand(3, 64), torch.rand(3, 1), torch.rand(3, 2)
        for _ in range(12):  # recorded after a few calls
            both, steps = model.act_and_step(state, goal, noise), model.step(state, action)
        assert torch.allclose(both[0], slow.act_and_step(state, goal, noise)[0], atol=1e-5)
        again = slow.step(state, action)
        assert all(torch.allclose(part, again[0][name], atol=1e-5) for name, part in steps[0].items())
        assert not torch.allclose(model.step(state, action, noise, 2.0)[0]["slots"], steps[0]["slots"])


def test_parts_are_measured_one_by_one_and_kept(made, tmp_path):
    args = {"unified": str(made / "one"), "policy": str(made / "policy"), "world_model": str(made / "base")}
    main(Arguments(**args, parts=("parameters",), out=tmp_path))
    main(Arguments(**args, parts=("speed",), out=tmp_path, seconds=0.01))
    found = json.loads((tmp_path / "fused.json").read_text())
    assert set(HEAD) <= set(found) and found["fused_parameters_share"] and found["fused_time_share_256"] > 0
    assert found["fused_points_behind"] is None and set(found["commands"]) == {"parameters", "speed"}
    assert found["fused_time_share"] == found["fused_time_share_256"]
    with pytest.raises(ValueError, match="is of kind 'slots'"):
        main(Arguments(**(args | {"unified": str(made / "base")}), out=tmp_path))


def test_rows_of_the_study_of_policies_are_played_in_their_own_world(tmp_path, monkeypatch):
    write(tmp_path / "data", *(make_episode(i, "demo" if i < 3 else "play", "push") for i in range(6)))
    sizes = {"demos": (2,), "others": 2, "updates": 1, "episodes": 1, "tasks": ("push",)}
    args = Study(data=(tmp_path / "data",), world_model="unlabelled", work=tmp_path / "work", **sizes)
    played = []
    monkeypatch.setattr(rows, "play", lambda batch: (played.append(batch), [result("x", 0, True, milliseconds=1.0)])[1])
    monkeypatch.setattr(one_network, "TEACHER", "plain")
    for row in ("unified", "unified, no world loss", "fused"):
        cell = rows.Cell(row, 2, 0)
        rows.run(cell, args)
        folder = cell.folder(args.group)
        assert played[-1].world_model == played[-1].policy == str(folder / "policy")
        policy = registry.load(folder / "policy")
        assert "goal" not in policy.inputs
        own = json.loads((folder / "figures.json").read_text())["parameters"]
        assert own == sum(
            p.numel() for part in (policy.trunk, policy.dream, policy.action_stream) for p in part.parameters()
        )
    told = json.loads((folder / "policy" / "metrics.json").read_text())
    assert told["teacher_parameters"] > 0 and policy.config.chunk == 1


def test_what_a_unified_model_has_is_not_taken_from_its_base():
    model = SimpleNamespace(some=None, none=0, table=torch.zeros(3), base=SimpleNamespace(some=1, none=2, own=3))
    probed = Probed(model)
    assert probed.some is None and probed.none == 0 and probed.table is model.table and probed.own == 3

"""Evaluation: what is played, how it is counted and what is written."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dream_env.agents import report
from dream_env.agents.eval import pictures
from dream_env.agents.eval import results as outcomes
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.evaluate import command as evaluate
from dream_env.agents.nicol import physics_starts as starts
from dream_env.agents.nicol import regressor, rollouts
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.rollouts import Batch
from dream_env.agents.nicol.vla import VLA, VLAConfig
from dream_env.agents.policies import registry
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out
from dream_env.agents.run.trust import TRUST
from dream_env.nicol import real
from dream_env.nicol.spec import SPEC
from dream_env.observations import observation_space
from dream_env.world_models import checkpoint


def episode(label="a", world="physics", task="reach", seed=0, success=True, solved=False):
    return EpisodeResult(label, world, task, seed, "words", solved, success, 2.0, 0.5)


@pytest.fixture
def played():
    """Two policies on 10 paired seeds per task: a solves 5, b 3 more; seed 9 starts solved."""
    return [
        episode(label, world, task, seed, seed < (5 if label == "a" else 8), seed == 9)
        for label in "ab"
        for world in ("physics", "dream")
        for task in ("reach", "lift")
        for seed in range(10)
    ]


def clip():
    frames = np.full((25, 64, 64, 3), 200, np.uint8) - np.arange(25, dtype=np.uint8)[:, None, None, None]
    return pictures.Clip("reach", "hold your hand above the crimson block", True, frames, frames)


@pytest.fixture(scope="module")
def world_model(tmp_path_factory):
    """Folder of an untrained world model with a bank of noise; what it dreams does not matter."""
    from dream_env.initial_states import InitialStates
    from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel

    folder = tmp_path_factory.mktemp("world_model")
    checkpoint.save(StateGroundedModel(StateGroundedConfig(width=16, blocks=1, ensemble=1)), folder, "card")
    pictures_ = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    bank = InitialStates(
        observation={"pixels": pictures_, "proprio": np.zeros((6, 4), np.float32)},
        goal_observation={"pixels": pictures_[:2]},
        goal=np.array([0, 1] * 3),
        task=np.array(["reach", "push", "lift"] * 2),
        instruction=np.array(["touch the red cube"] * 6),
        step=np.zeros(6, np.int64),
    )
    bank.save(folder / "initial_states.npz")
    return str(folder)


def test_summary_drops_solved_starts_and_pools_tasks(played):
    summary = outcomes.summarize(played)
    rows = {(r["policy"], r["world"], r["task"]): r for r in summary["rows"]}
    assert set(rows) == {(p, w, t) for p in "ab" for w in ("physics", "dream") for t in ("reach", "lift", "all")}
    assert rows["a", "physics", "reach"]["episodes"] == 9
    assert (rows["b", "dream", "all"]["successes"], rows["b", "dream", "all"]["episodes"]) == (
        16,
        18,
    )
    assert rows["a", "physics", "all"]["return"] == 2.0


def test_comparison_is_paired(played):
    found = outcomes.summarize(played)["comparisons"]
    overall = next(c for c in found if (c["world"], c["task"]) == ("physics", "all"))
    assert (overall["before"], overall["after"], overall["episodes"]) == ("a", "b", 18)
    assert overall["value"] == pytest.approx(6 / 18) and overall["p"] == pytest.approx(2 / 2**6)


def test_report_files(played, tmp_path):
    text = outcomes.write_report(played, [clip()] * 6, {"seed": 7}, tmp_path)
    assert "56 % (27–81)" in text and "– a" not in text and "b − a" in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["seed"] == 7 and results["dropped"] == 8 and len(results["rows"]) == 12
    assert outcomes.load_results(tmp_path / "episodes.jsonl") == played
    with Image.open(tmp_path / "results.png") as plot:
        assert plot.width > 600
    with Image.open(tmp_path / "rollouts.gif") as animation:
        assert animation.n_frames == 25
    assert (tmp_path / "rollouts.gif").stat().st_size <= pictures.GIF_BYTES
    assert not list(tmp_path.glob("*.part"))


def test_a_report_of_starts_that_were_all_solved(tmp_path):
    text = outcomes.write_report([episode(solved=True)], [], {}, tmp_path)
    assert text == "No episode counts: the condition of success held at every start.\n"
    assert json.loads((tmp_path / "results.json").read_text())["dropped"] == 1


def test_results_have_a_place_before_anything_is_played(tmp_path):
    check_out(tmp_path / "new" / "one")
    assert not list(tmp_path.iterdir()), "it only looks"
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="file is no folder that can be written to; accepted"):
            evaluate.main(evaluate.Arguments(policy=("zero",), out=out))


def test_large_pictures_are_drawn_smaller(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "GIF_BYTES", 5_000)
    pictures.gif([clip()], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.width < 2 * pictures.TILES[1]
    with pytest.raises(ValueError, match="no clip to draw"):
        pictures.gif([], tmp_path / "b.gif")


def test_damaged_episode_file(tmp_path):
    (tmp_path / "episodes.jsonl").write_text('{"label": "a"}\n')
    with pytest.raises(ValueError, match="line 1 is no episode; accepted: keys confirmed, distance"):
        outcomes.load_results(tmp_path / "episodes.jsonl")


def test_batches_play_every_policy_on_the_same_seeds():
    policies = {"x": "zero", "y": "random", "z": "expert"}
    settings = evaluate.Settings(policies, ("reach", "lift"), 12)
    batches = settings.batches()
    for label in "xyz":
        for world in ("physics", "dream"):
            for task in ("reach", "lift"):
                mine = [b for b in batches if (b.label, b.world, b.task) == (label, world, task)]
                seeds = [seed for b in mine for seed in b.seeds]
                expected = [] if (label, world) == ("z", "dream") else range(100_000, 100_012)
                assert seeds == list(expected)
    controls = replace(settings, instruction="swapped").batches()
    assert {b.world for b in controls} == {"physics"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"policies": {"x": "nowhere"}}, FileNotFoundError, "policy='nowhere'.*accepted: a folder"),
        ({"policies": {"x": "no.zip"}}, FileNotFoundError, "policy='no.zip' is not there; accepted"),
        ({"world_model": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"policies": {"x": "bc5"}}, ValueError, "world_model=None has no .'embedding'., which policy='bc5' reads"),
        ({"tasks": ("fly",)}, ValueError, "tasks='fly' is not known; accepted: 'reach'"),
        ({"tasks": ("push", "push")}, ValueError, "tasks=push,push names one twice"),
        ({"episodes": 0}, ValueError, "episodes=0; accepted: 1 or more"),
        ({"instruction": "sung"}, ValueError, "instruction='sung' is not known"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_played(arguments, error, message):
    given = {"policies": {"x": "zero"}, "world_model": None, **arguments}
    with pytest.raises(error, match=message):
        evaluate.evaluate(evaluate.Settings(**given))


def test_a_process_for_each_core_that_may_be_used(monkeypatch):
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert list(pool.imap(lambda item: (item, os.getpid()), range(2))) == [(0, os.getpid()), (1, os.getpid())]


def test_policy_labels(tmp_path):
    given = evaluate.parse_policies(["assets/policy", "runs/best.zip", "after RL=runs/x"])
    assert given == {"policy": "assets/policy", "best": "runs/best.zip", "after RL": "runs/x"}
    (swept := tmp_path / "lr=0.1").mkdir()
    assert evaluate.parse_policies([str(swept), f"x={swept}"]) == {"lr=0.1": str(swept), "x": str(swept)}
    with pytest.raises(ValueError, match="label 'policy' is taken"):
        evaluate.parse_policies(["a/policy", "b/policy"])


def test_scripted_actors_are_fixed_by_their_seeds():
    first = rollouts.make_actor("random", [5, 6])({})
    again = rollouts.make_actor("random", [6])({})
    assert first.shape == (2, 4) and np.array_equal(first[1], again[0])
    assert not rollouts.make_actor("zero", [5, 6])({}).any()


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_any_stable_baselines_zip_is_loaded_alike(algorithm, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    import gymnasium as gym
    import stable_baselines3

    class Blank(gym.Env):
        observation_space = observation_space(SPEC, 8, ("proprio",))
        action_space = SPEC.action

    model = getattr(stable_baselines3, algorithm)("MultiInputPolicy", Blank())
    model.save(tmp_path / "model.zip")
    obs = {key: space.sample() for key, space in Blank.observation_space.spaces.items()}
    batch = {key: value[None] for key, value in obs.items()}
    act = rollouts.make_actor(str(tmp_path / "model.zip"), [0])
    assert np.allclose(act(batch)[0], model.predict(obs, deterministic=True)[0], atol=1e-6)


def test_a_policy_sees_through_the_world_model_that_it_names(world_model, tmp_path):
    policy.save(VLA(VLAConfig(world_model=world_model)), tmp_path / "vla", "card")
    fitted = regressor.Regressor(regressor.RegressorConfig(world_model=world_model))
    checkpoint.save(fitted, tmp_path / "regressor", "card")
    for name in ("vla", "regressor"):
        assert rollouts.env_kwargs(str(tmp_path / name), "default")["world_model"] == world_model
        assert rollouts.env_kwargs(str(tmp_path / name), "other")["world_model"] == "other"
    assert rollouts.env_kwargs("expert", "default")["world_model"] == "default"


def test_scripted_policies_dream_in_the_world_model_of_the_others(capsys):
    assert evaluate.shared_world_model(["random", "bc5", "state_grounded"]) == "state_grounded"
    assert evaluate.shared_world_model(["random", "expert"]) == "default" and not capsys.readouterr().out
    assert evaluate.shared_world_model(["bc5", "unlabelled"]) == "default"
    assert "names: state_grounded, unlabelled" in capsys.readouterr().out


def test_a_zip_runs_no_code_unless_its_author_is_trusted(tmp_path, monkeypatch):
    monkeypatch.delenv(TRUST, raising=False)
    torch.save({}, tmp_path / "model.zip")
    with pytest.raises(ValueError, match="runs the code in it; accepted: .* --trust"):
        registry.load(str(tmp_path / "model.zip"))


def test_foreign_zip(tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    (tmp_path / "model.zip").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="model.zip is not a model saved by stable-baselines3"):
        registry.load(str(tmp_path / "model.zip"))


def test_physics_counts_the_expert_and_pairs_starts():
    seeds = tuple(range(100_000, 100_002))
    expert, again, idle = (
        rollouts.play(Batch(policy, "x", "physics", "reach", seeds, None)) for policy in ("expert", "expert", "zero")
    )
    assert expert == again and all(outcome.success for outcome in expert)
    assert [o.spoken for o in expert] == [o.spoken for o in idle]
    assert not any(o.success for o in idle) and all(o.distance is None for o in idle)


def test_controls_change_what_is_said_and_not_what_is_judged():
    seed = 100_001
    said = {}
    for mode in ("normal", "swapped", "shuffled", "absent", "heldout"):
        batch = Batch("expert", "x", "physics", "push", (seed,), None, mode)
        (outcome,) = rollouts.play(batch)
        said[mode] = outcome.spoken
        assert outcome.success, "the expert follows the original instruction whatever is said"
    assert said["absent"] == rollouts.NO_WORDS and len(set(said.values())) == 5


def test_dreams_of_a_batch_equal_single_dreams(world_model):
    together, one, two = (
        rollouts.play(Batch("random", "x", "dream", "push", seeds, world_model)) for seeds in ((5, 9), (5,), (9,))
    )
    assert together == one + two
    assert together[0].distance > 0


def test_dreams_begin_as_physics_does(world_model):
    seeds = (100_000, 100_001)
    physics, dream = (
        rollouts.play(Batch("zero", "x", world, "reach", seeds, world_model)) for world in outcomes.WORLDS
    )
    assert [(o.spoken, o.solved_at_start) for o in dream] == [(o.spoken, o.solved_at_start) for o in physics]
    bank, _ = starts.physics_starts("reach", seeds)
    obs, _ = real.make("reach", world_model=world_model).reset(seed=seeds[1])
    tokens = bank.states(checkpoint.load(world_model), np.array([1]))["tokens"]
    np.testing.assert_allclose(tokens.flatten(), obs["embedding"], atol=1e-5)
    np.testing.assert_array_equal(bank.observation["proprio"][1], obs["proprio"])
    assert starts.physics_start("reach", seeds[1]) is starts.physics_start("reach", seeds[1])


def test_what_was_done_in_a_dream_is_put_to_physics(world_model, monkeypatch):
    from dream_env.nicol.env import NicoLRealEnv

    seed, taken = 100_000, []
    env = NicoLRealEnv("lift")
    env.reset(seed=seed)
    for _ in range(24):
        taken.append(env.expert_action())
        env.step(taken[-1])
    env.close()
    batch = Batch("zero", "x", "dream", "lift", (seed, seed + 1), world_model, confirm=True)
    assert [o.confirmed for o in rollouts.play(batch)] == [False, False]
    assert [o.confirmed for o in rollouts.play(replace(batch, confirm=False))] == [None, None]
    steps = iter(taken)
    monkeypatch.setattr(rollouts, "make_actor", lambda *_: lambda obs: np.stack([next(steps), np.zeros(4)]))
    assert [o.confirmed for o in rollouts.play(batch)] == [True, False]


def test_physics_is_repeated_with_the_cubes_elsewhere(monkeypatch):
    batch = Batch("expert", "x", "physics", "lift", (100_000,), None, confirm=True)
    assert [o.confirmed for o in rollouts.play(batch)] == [True]
    monkeypatch.setattr(rollouts, "OFFSET", 0.02)
    assert [(o.success, o.confirmed) for o in rollouts.play(batch)] == [(True, False)]


def test_summary_counts_what_physics_confirms(played):
    dreams = [replace(o, confirmed=o.seed < 4) if o.world == "dream" else o for o in played]
    rows = {(r["policy"], r["world"], r["task"]): r for r in outcomes.summarize(dreams)["rows"]}
    assert rows["a", "dream", "all"]["confirmed"] == 4 / 5 and rows["b", "dream", "lift"]["confirmed"] == 4 / 8
    assert rows["a", "physics", "all"]["confirmed"] is None
    table = outcomes.tables({"rows": list(rows.values()), "comparisons": []})
    assert "| confirmed " in table and "– / 80%" in table
    assert "confirmed" not in outcomes.tables(outcomes.summarize(played))


def test_clips_show_both_worlds_from_one_start(world_model):
    (made,) = rollouts.record(Batch("expert", "x", "physics", "reach", (100_000,), world_model))
    assert made.physics.shape == made.dream.shape == (25, 64, 64, 3) and made.success
    with pytest.raises(ValueError, match="world_model=None has no dream"):
        rollouts.record(Batch("expert", "x", "physics", "reach", (1,), None))


def test_command(world_model, tmp_path, capsys):
    args = evaluate.Arguments(
        policy=("zero", "random", "expert"),
        tasks=("reach,lift",),
        episodes=1,
        world_model=world_model,
        gif_episodes=1,
        workers=1,
        out=tmp_path,
    )
    evaluate.main(args)
    assert str(tmp_path) in capsys.readouterr().out
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    success = {(row["policy"], row["world"], row["task"]): row["value"] for row in rows}
    assert success["expert", "physics", "all"] == 1 and success["zero", "physics", "all"] == 0
    assert ("expert", "dream", "all") not in success and ("random", "dream", "all") in success
    assert (tmp_path / "rollouts.gif").is_file()


def test_page_is_filled_from_result_files(played, tmp_path):
    data = {**outcomes.summarize(played), "speed": {"steps": 1532.7, "cores": 2, "gpu": None}}
    (tmp_path / "run.json").write_text(json.dumps(data))
    page = (
        "# T\n<!-- results:run -->old<!-- /results -->\n"
        "<!-- results:run.speed.steps -->1<!-- /results --> steps/s "
        "<!-- results:run.speed --><!-- /results -->"
    )
    text = report.fill(page, tmp_path)
    assert "old" not in text and "56 % (27–81)" in text and "| cores | 2    |" in text and "| gpu   | –    |" in text
    assert "<!-- results:run.speed.steps -->1533<!-- /results --> steps/s" in text
    assert report.fill(text, tmp_path) == text
    task = report.fill("<!-- results:run.all --><!-- /results -->", tmp_path)
    assert "| all " in task and "reach" not in task and "56 % (34–75)" in task
    third = report.fill("<!-- results:run.rows.2.episodes --><!-- /results -->", tmp_path)
    assert f"-->{data['rows'][2]['episodes']}<!--" in third
    (tmp_path / "run.json").write_text('{"share": 0.567}')
    assert report.fill("<!-- results:run.share% -->x<!-- /results -->", tmp_path).endswith("-->57 %<!-- /results -->")
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(FileNotFoundError, match="block 'no': .*; result files there: run"):
        report.fill("<!-- results:no --><!-- /results -->", tmp_path)
    with pytest.raises(ValueError, match="has no 'tempo'; it has: steps, cores, gpu"):
        report.fill("<!-- results:run.speed.tempo --><!-- /results -->", tmp_path)


def test_every_task_has_a_gif_of_its_own(tmp_path):
    pictures.gifs([replace(clip(), task=task) for task in ("push", "push", "lift")], tmp_path / "a.gif")
    heights = {}
    for name in ("a", "a_push", "a_lift"):
        with Image.open(tmp_path / f"{name}.gif") as animation:
            heights[name] = animation.height
            assert animation.width >= 2 * 128
    assert heights["a"] == heights["a_push"] == 2 * heights["a_lift"]


def test_pictures_are_enlarged_smoothly():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = 255
    large = np.asarray(pictures.enlarge(picture, 128)).astype(int)
    assert large.shape == (128, 128, 3) and np.abs(np.diff(large[64, :, 0])).max() < 60, "no blocks"
    assert pictures.enlarge(np.zeros((300, 2, 3), np.uint8), 128).height == 300

"""The fidelity report: how it is counted, and what a user reads."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import toy
from PIL import Image
from recorded import TASKS, recorded
from stable_baselines3 import PPO

from dream_env.agents.eval.results import EpisodeResult, load_results, save_results
from dream_env.agents.fidelity import command as fidelity
from dream_env.agents.fidelity import figures as fidelity_figures
from dream_env.agents.fidelity import ranking, replay, uncertainty
from dream_env.agents.fidelity.report import OVERALL_TARGETS, TASK_TARGETS, verdict
from dream_env.agents.nicol import probes
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.agents.nicol.vla import VLA, VLAConfig
from dream_env.agents.policies import registry
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.agents.run.config import command_line
from dream_env.agents.run.trust import TRUST
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.language import COLORS
from dream_env.world_models.protocol import Prediction

HALF = EPISODE_STEPS // 2


@pytest.fixture(scope="module")
def model():
    return toy.ToyWorldModel()


@pytest.fixture(scope="module")
def episodes():
    return recorded(24)


@pytest.fixture(scope="module")
def latents(model, episodes):
    return encode_episodes(model, episodes)


# --- how it is counted


def rollout(tokens, proprio, probability):
    """A rollout of which nothing else is of interest."""
    held = probability[:, 1:] >= 0.5
    for _ in range(2):  # HOLD_STEPS steps
        held = held & torch.nn.functional.pad(held, (1, 0))[:, :-1]
    return replay.Rollout({"tokens": tokens, "proprio": proprio}, probability, held, None)


def ended(success):
    return replay.Rollout({}, None, torch.tensor(success)[:, None], None)


def test_figures_of_a_perfect_dream(model, episodes, latents):
    physics = replay.physics_rollout(model, latents)
    starts = sorted({start for each in fidelity_figures.STARTS.values() for start in each})
    dreams = {s: rollout(latents.tokens[:, s:], latents.proprio[:, s:], latents.condition[:, s:]) for s in starts}
    again = episodes.condition[:6, -1].copy()
    again[np.flatnonzero(~again)[0]] = True
    figures = fidelity_figures.success(latents.condition, latents, dreams, 0.5, again)
    assert figures["all"]["auc"] == 1 and figures["all"]["false_positive_rate"] == 0
    repeated, failed = figures["physics_24"], int((~episodes.condition[:6, -1]).sum())
    assert repeated["states"] == 6 and repeated["recall"] == 1 and repeated["false_positive_rate"] == 1 / failed
    assert figures["all"]["calibration_error"] == 0 and figures["24"]["states"] == len(episodes)
    errors = fidelity_figures.latent_error(latents, dreams[0])
    assert max(errors["predicted"]) == 0 and min(errors["copied"]) > 0
    confusion = fidelity_figures.confusion(physics, dreams[0], episodes.kind)
    assert confusion["all"]["dream"] == confusion["all"]["physics"] == 0
    assert sum(confusion["play"][key] for key in ("both", "neither")) == (episodes.kind == "play").sum()

    some = fidelity_figures.states_ahead(latents, dreams, HALF)
    assert torch.equal(some.dreamt, some.seen) and len(some.cubes) == len(episodes) * len(starts)
    first, last = (torch.from_numpy(episodes.colors[:, i]) for i in (0, 2))
    rows = torch.arange(len(episodes))
    assert some.touched[rows, first].all() and not some.touched[rows, last].any()


def test_a_dream_that_always_succeeds_is_counted_against():
    kinds = np.array(["expert", "expert", "play", "play"])
    figures = fidelity_figures.confusion(ended([True, False, True, True]), ended([True] * 4), kinds)
    assert figures["all"] == {"both": 3, "physics": 0, "dream": 1, "neither": 0, "false_positive_rate": 1.0}
    assert figures["expert"]["dream"] == 1 and np.isnan(figures["play"]["false_positive_rate"])


def test_positions_are_those_of_the_probe(latents):
    class Oracle(torch.nn.Module):
        """Reads everything as it is at the end, but 3 cm to the side in the dream."""

        def forward(self, tokens, proprio):
            off = tokens.mean((1, 2), keepdim=True).round() * torch.tensor([3.0, 0, 0])
            truth = fidelity_figures.states_ahead(latents, dreams, EPISODE_STEPS)
            held = torch.where(truth.held[:, None] > 0, 1.0, -1.0).expand(-1, len(COLORS))
            return probes.Reading(truth.cubes + off, held, truth.hand + off[:, 0])

    tokens = torch.zeros_like(latents.tokens)
    latents = latents._replace(tokens=tokens)
    dreams = {0: rollout(tokens + 1, latents.proprio, latents.condition)}
    steps = {EPISODE_STEPS: (0,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity_figures, "STARTS", steps)
        figures = fidelity_figures.positions(Oracle(), latents, dreams)
    for thing in ("hand", "untouched", "moved"):
        assert figures["encoded_24"][thing] == 0
        assert figures["dream_24"][thing] == pytest.approx(3, abs=1e-4)
    assert figures["dream_24"]["held_auc"] == 1
    counted = figures["dream_24"]["cubes_moved"] + figures["dream_24"]["cubes_untouched"]
    assert counted == 3 * len(tokens)


def test_calibration_of_a_boaster():
    told, truth = torch.full((10,), 0.95), torch.tensor([1.0] * 5 + [0.0] * 5)
    figures = fidelity_figures.calibration(told, truth)
    assert figures["calibration_error"] == pytest.approx(0.45)
    assert figures["reliability"] == [(pytest.approx(0.95), 0.5, 10)]


def test_disagreement_that_knows_its_error(latents):
    class Honest(toy.ToyWorldModel):
        """Errs by as much as the action is large, and says so."""

        def step(self, state, action, noise=None, temperature=1.0):
            doubt = action.abs().sum(-1)
            return {**state, "tokens": state["tokens"] + doubt[:, None, None]}, Prediction(disagreement=doubt)

    still = latents._replace(tokens=latents.tokens[:, :1].expand(-1, EPISODE_STEPS + 1, -1, -1))
    honest = Honest()
    physics, dream = replay.physics_rollout(honest, still), replay.dream_rollout(honest, still)
    figures = uncertainty.correlations(still, physics, dream)
    assert figures["step"] > 0.99 and figures["rollout_24"]["sum"] > 0.99
    assert figures["rollout_24"]["last"] < 0.9
    absurd = uncertainty.outliers(honest, still)
    assert absurd["actions"]["auc"] == 1 and absurd["actions"]["flagged"] == 1
    assert absurd["noise"]["auc"] == pytest.approx(0.5), "it does not look at tokens"


# --- policies


def outcome(label, world, seed, success, solved=False, task="reach"):
    return EpisodeResult(label, world, task, seed, "words", solved, success, 1.0, 0.1)


def test_agreement_of_both_worlds():
    rates = {"bad": (1, 3), "fair": (5, 6), "good": (9, 8)}
    played = [
        outcome(label, world, seed, seed < count, solved=seed == 10)
        for label, counts in rates.items()
        for world, count in zip(("physics", "dream"), counts, strict=True)
        for seed in range(11)
    ]
    figures = ranking.agreement(played)
    assert figures["spearman"] == 1 and figures["pearson"] > 0.9
    assert figures["mae_points"] == pytest.approx(40 / 3) and figures["bias_points"] == pytest.approx(20 / 3)
    assert figures["same"] == pytest.approx(26 / 30)
    assert figures["rows"][1] == {"policy": "fair", "episodes": 10, "physics": 0.5, "dream": 0.6, "confirmed": None}
    put = [replace(each, confirmed=each.seed < (4 if each.world == "dream" else 5)) for each in played]
    assert ranking.agreement(put)["confirmed"] == (3 + 4 + 4) / (3 + 6 + 8)
    assert ranking.agreement(put)["confirmed_physics"] == (1 + 5 + 5) / (1 + 5 + 9)
    assert np.isnan(ranking.agreement(played, "lift")["mae_points"])


@pytest.fixture(scope="module")
def policies(tmp_path_factory, toy_folder):
    """Three untrained policies that learned to see through the toy."""
    folders, eyes = [], fingerprint(toy.ToyWorldModel())
    for seed in range(3):
        torch.manual_seed(seed)
        folders.append(str(tmp_path_factory.mktemp("policies") / str(seed)))
        policy.save(VLA(VLAConfig(world_model=toy_folder, encoder_id=eyes)), folders[-1], "card")
    return tuple(folders)


@pytest.fixture
def played(monkeypatch):
    """Keeps account of what would be played, and lets every second seed succeed."""
    batches = []

    def play(batch):
        batches.append(batch)
        one = partial(outcome, batch.label, batch.world, task=batch.task)
        return [replace(one(seed, seed % 2 == 0), confirmed=seed % 4 == 0) for seed in batch.seeds]

    monkeypatch.setattr(ranking, "play", play)
    return batches


def test_physics_is_asked_once(policies, toy_folder, played, tmp_path):
    def compare(seeds, labels=policies):
        played.clear()
        return ranking.compare(labels, ("reach", "lift"), seeds, toy_folder, tmp_path, workers=1)

    first = compare(range(3))
    assert all(batch.confirm for batch in played)
    assert len(first) == 2 * 2 * 3 * 3 and ranking.agreement(first)["same"] == 1
    more = compare(range(5))
    assert {seed for batch in played if batch.world == "physics" for seed in batch.seeds} == {3, 4}
    assert len(more) == 2 * 2 * 3 * 5
    assert compare(range(3)) and {batch.world for batch in played} == {"dream"}
    for file in tmp_path.glob("*.jsonl"):  # as it was before outcomes were put to physics once more
        save_results([replace(each, confirmed=None) for each in load_results(file)], file)
    assert compare(range(3)) and {batch.world for batch in played} == {"dream", "physics"}


def test_policies_with_other_eyes_are_refused(policies, toy_folder, tmp_path, model):
    ranking.check_policies(policies, toy_folder)
    stranger = toy.save(tmp_path / "stranger", toy.ToyWorldModel(toy.ToyConfig(seed=1)))
    with pytest.raises(ValueError, match="policies: .* does not fit .*stranger.* is not the one"):
        ranking.check_policies(policies, stranger)
    with pytest.raises(ValueError, match="named twice"):
        ranking.check_policies(policies[:1] * 2, toy_folder)
    moved, eyes = str(tmp_path / "moved"), fingerprint(model)
    policy.save(VLA(VLAConfig(world_model="gone", encoder_id=eyes)), moved, "card")
    ranking.check_policies([moved], toy_folder)  # what counts is what it sees
    policy.save(VLA(VLAConfig(world_model=toy_folder, encoder_id=(1.0, *eyes[1:]))), moved, "card")
    with pytest.raises(ValueError, match="moved' does not fit"):
        ranking.check_policies([moved], toy_folder)
    with pytest.raises(FileNotFoundError, match="accepted: a folder"):
        ranking.check_policies([str(tmp_path)], toy_folder)


def test_zips_of_stable_baselines_are_compared_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    zips = [str(tmp_path / f"{name}.zip") for name in ("one", "goals")]
    for file, form in zip(zips, ({}, {"goal_env": True}), strict=True):
        env = gym.make("NicoLDream-v0", **form)
        PPO("MultiInputPolicy", env, n_steps=8, batch_size=8).save(file)
    ranking.check_policies(zips, "default")
    assert ranking.recordable(zips) == (zips[0],) and ranking.weights(zips[0]) != ranking.weights(zips[1])


# --- what a user reads


def report(**changed):
    figures = {t.key: t.bound for t in TASK_TARGETS}
    tasks = {"reach": dict(figures), "lift": figures | changed}
    return {"tasks": tasks} | {t.key: t.bound for t in OVERALL_TARGETS}


def test_verdict_in_words():
    assert verdict(report()) == "Trust it for reach and lift."
    text = verdict(report(success_fpr=0.06))
    assert "Trust it for reach. Not for lift: false successes" in text and "6.0 % (asked: ≤ 2.0 %)" in text
    text = verdict(report(held_auc_12=None) | {"policy_spearman": 0.5})
    assert "Of all tasks: the dream ranks policies" in text and "held or not after 12 steps (AUC) (lift)" in text
    poor = report()
    for task in poor["tasks"].values():
        task["hand_cm_24"] = 2.0
    assert verdict(poor).startswith("Do not trust it for any of these tasks yet.")


def test_command(policies, toy_folder, played, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(replay, "held_out", lambda jobs, *rest: recorded(len(jobs), jobs[0].seed))
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: recorded(6, first_seed=50_000))
    args = fidelity.Arguments(
        data=tmp_path / "data",
        policies=policies,
        world_model=toy_folder,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        episodes=36,
        policy_episodes=4,
        probe_updates=5,
        again=3,
        scenes=0,
        workers=1,
    )
    fidelity.main(args)
    found = json.loads((args.out / "fidelity.json").read_text())
    assert {t.key for t in OVERALL_TARGETS} | {"checkpoint_sha256", "seeds", "policies", "command"} <= set(found)
    for task in TASKS:
        assert {t.key for t in TASK_TARGETS} <= set(found["tasks"][task])
        assert found["tasks"][task]["physics_again"]["cubes_moved"] > 0
        assert found["tasks"][task]["hand_cm_24"] > 0 and found["tasks"][task]["reward_spearman"] is None
        with Image.open(args.out / f"fidelity_{task}.png") as picture:
            assert picture.width == 110 + 9 * 128, "pictures, and labels beside them"
    assert found["command"] == command_line("fidelity", args)
    assert found["policies"] == 3 and found["policy_mae_points"] == 0
    page = (args.out / "fidelity.md").read_text()
    assert "physics_24" in page and found["verdict"] in page and found["verdict"] in capsys.readouterr().out
    assert (args.out / "fidelity.png").stat().st_size > 10_000

    monkeypatch.setattr(probes, "fit_probe", None)
    fidelity.main(replace(args, policies=(), again=0))
    alone = json.loads((args.out / "fidelity.json").read_text())
    assert alone["policy_spearman"] is None and "## Policies" not in (args.out / "fidelity.md").read_text()
    hand = [each["tasks"]["lift"]["hand_cm_24"] for each in (found, alone)]
    assert hand[0] == hand[1], "the probe is kept"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("reach", "fly")}, "tasks='fly' is not known"),
        ({"tasks": ("reach", "reach")}, "names one twice"),
        ({"out": Path(__file__)}, "is no folder that can be written to"),
        ({"episodes": 3}, "episodes=3; accepted: 12 or more"),
        ({"policy_episodes": 0}, "policy_episodes=0; accepted: 1 or more"),
        ({"seed": 50_000}, "holds the held-out seed 50000"),
    ],
)
def test_what_is_wrong_is_named_first(toy_folder, monkeypatch, tmp_path, change, message):
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: recorded(6, first_seed=50_000))
    args = fidelity.Arguments(data=tmp_path, world_model=toy_folder, cache=tmp_path)
    with pytest.raises(ValueError, match=message):
        fidelity.measure(replace(args, **change))


def test_policies_that_act_otherwise_by_the_same_weights_are_told_apart(tmp_path):
    torch.manual_seed(0)
    one = VLA(VLAConfig())
    two = VLA(replace(one.config, std=2 * one.config.std))
    two.load_state_dict(one.state_dict())
    for name, policy_ in (("one", one), ("again", one), ("two", two)):
        registry.save(policy_, tmp_path / name, "For tests.")
    found = [ranking.weights(str(tmp_path / name)) for name in ("one", "again", "two")]
    assert found[0] == found[1] != found[2]

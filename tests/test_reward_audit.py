"""The reward audit: its counts on made-up distances, its scenes in physics, its command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import toy

from dream_env.agents.eval.rank_correlation import progressed, rank_figures
from dream_env.agents.run import cli
from dream_env.agents.run.config import command_line
from dream_env.agents.studies.reward_audit import command as reward_audit
from dream_env.agents.studies.reward_audit import scenes
from dream_env.agents.studies.reward_audit.arguments import SEED
from dream_env.agents.studies.reward_audit.command import Arguments, audit, audit_rewards, faults, reward_figures
from dream_env.agents.studies.reward_audit.measures import POTENTIALS, Scored, audit_figures, score_scene
from dream_env.agents.studies.reward_audit.scenes import BEHAVIORS, Scene, Take
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.tasks import STANDARD
from dream_env.rewards import RewardName


def take(*steps: float, off=None) -> Take:
    """A take of which only the truth is of interest; the cube is as many cm off its place as there are steps to go."""
    frames, off = len(steps), np.float32(steps if off is None else off)
    return Take(np.zeros((frames, 64, 64, 3), np.uint8), np.zeros((frames, 4), np.float32), np.float32(steps), off)


def scene(task: str = "lift", **takes: Take) -> Scene:
    way = {"expert": take(9, 6, 3, 0, 0), "misjudge": take(9, 7, 5, 5, 4), "play": take(9, 9.5, 11, 8, 8.2)}
    return Scene(task, 0, f"{task} the red cube", np.zeros((64, 64, 3), np.uint8), {**way, "demo": take(9, 0), **takes})


def seen(one: Scene, distance=lambda steps: steps, **others: list[float]) -> Scored:
    """A scene as a distance sees it that is a function of the truth, but for some takes."""
    values = {name: distance(part.steps) for name, part in one.takes.items()}
    return Scored(one, values | {name: np.array(value) for name, value in others.items()})


# --- counts


def test_only_states_between_which_something_happened_count():
    steps = np.array([[5.0, 4.8, 4.1, 3.9, 3.8, 0.0, 0.0, 0.0, 2.0]])
    assert progressed(steps)[0].tolist() == [True, False, False, True, False, True, False, False, True]


def test_order_of_true_reversed_and_random_distances():
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.uniform(-1, 3, (40, 12)), axis=1)[:, ::-1]
    assert rank_figures(np.exp(steps / 9), steps) == {"spearman": 1.0, "spearman_within": 1.0, "pairwise": 1.0}
    turned = rank_figures(-steps, steps)
    assert turned == {"spearman": -1.0, "spearman_within": -1.0, "pairwise": 0.0}
    noise = rank_figures(rng.normal(size=steps.shape), steps)
    assert all(abs(noise[name]) < 0.2 for name in ("spearman", "spearman_within"))
    assert 0.4 < noise["pairwise"] < 0.6


def test_a_hand_that_trembles_does_not_count():
    steps = np.tile([6.0, 5.9, 6.1, 6.0, 4.0, 4.1, 3.9, 2.0, 0.0, 0.0], (5, 1))
    trembling = np.round(steps) + np.array([0, 0.4, -0.4, 0.3, 0, -0.3, 0.4, 0, 0, 0.5])
    assert rank_figures(trembling, steps)["spearman"] == pytest.approx(1.0)


def test_perfect_distance_passes_and_the_hand_s_does_not():
    one = scene(wrong=take(9, 12), missed=take(9, 13), arm=take(13), hidden=take(13, 4), open=take(9, 6, 2))
    row = audit_figures([seen(one)])
    assert {row[name] for name in ("spearman", "wrong", "missed", "arm", "hidden", "open")} == {1.0}
    assert (row["n_wrong"], row["n_missed"], row["n_arm"], row["n_hidden"], row["n_open"]) == (2, 2, 2, 4, 3)
    assert row["sensitivity"] == pytest.approx(13 / 9) and np.isnan(row["object"]) and faults(row) == []
    # To one that sees the hand alone, a hand in the right place is the goal.
    row = audit_figures([seen(one, missed=[9, -1], arm=[-1])])
    assert (row["wrong"], row["missed"], row["arm"]) == (1.0, 0.0, 0.0)
    assert [fault.split()[0] for fault in faults(row)] == ["missed", "arm"]


def test_ends_count_only_where_they_are_what_they_are_called():
    solved_by_chance = scene(wrong=take(9, 0), missed=take(9, 13), open=take(9))
    row = audit_figures([seen(solved_by_chance)])
    assert row["n_wrong"] == 0 and np.isnan(row["wrong"]) and row["n_missed"] == 2
    nobody_solves = scene(expert=take(9, 6, 3, 3, 3), demo=take(9, 2), wrong=take(9, 9), open=take(9))
    assert audit_figures([seen(nobody_solves)])["n_wrong"] == 0


def test_hiding_the_cube_must_not_pay():
    one = scene(hidden=take(13, 12), open=take(9, 6, 2))
    row = audit_figures([seen(one, hidden=[1.0, 1.0])])
    assert row["hidden"] == 0.0 and row["open"] == 1.0
    assert [fault.split()[0] for fault in faults(row)] == ["hidden"]


def test_who_will_succeed_is_nearer_before_it_is_done():
    one = scene(expert=take(9, 6, 3, 0, 0), demo=take(9, 9, 9, 9, 9), misjudge=take(9, 9, 9, 9, 9), play=take(*[9] * 5))
    row = audit_figures([seen(one)])
    assert row["later"] == 1.0 and row["n_later"] == 2 * 3, "two steps before it is done, three that miss"
    assert audit_figures([seen(one, lambda steps: -steps)])["later"] == 0.0


def test_the_true_pose_is_a_judge_of_its_own():
    one = scene(**{name: take(9, 6, 4, 2, 0, off=[1, 5, 9, 13, 17]) for name in ("expert", "misjudge", "play")})
    row = audit_figures([seen(one)])
    assert row["spearman"] == pytest.approx(1) and row["spearman_pose"] == pytest.approx(-1)


def test_the_cube_alone_is_nearer_than_the_hand_alone():
    one = scene("push", arm=take(13), object=take(0), open=take(9))
    assert audit_figures([seen(one)])["object"] == 1.0
    assert audit_figures([seen(one, object=[20.0])])["object"] == 0.0
    still_there = replace(one, takes={**one.takes, "object": take(4)})
    assert audit_figures([seen(still_there)])["n_object"] == 0


def test_every_reward_goes_by_one_potential():
    names = [name for rewards in POTENTIALS.values() for name in rewards]
    assert sorted(names) == sorted(set(RewardName.__args__) - {"environment"})


# --- physics


@pytest.fixture(scope="module")
def played():
    return [scenes.play_scene((task, SEED + 2)) for task in STANDARD]


def test_scenes_hold_what_their_names_say(played):
    for one in played:
        truth = {name: part.steps for name, part in one.takes.items()}
        assert set(BEHAVIORS) <= set(one.takes) and {"hidden", "open"} <= set(one.takes)
        assert all(len(truth[name]) == EPISODE_STEPS + 1 for name in BEHAVIORS)
        assert len({float(truth[name][0]) for name in BEHAVIORS}) == 1, "all begin alike"
        assert one.takes["demo"].solved and not one.takes["wrong"].solved and not one.takes["missed"].solved
        assert min(truth["hidden"].min(), truth["open"].min()) > 0
        for part in one.takes.values():
            assert part.images.shape == (len(part.steps), 64, 64, 3) and part.proprio.shape == (len(part.steps), 4)
    reach, push, lift = (one.takes for one in played)
    for takes in (reach, push, lift):
        assert takes["demo"].off[-1] < 7 < min(takes["demo"].off[0], takes["wrong"].off[-1])
    assert push["object"].off[0] < push["arm"].off[0] and reach["expert"].off[-1] < 4
    assert np.ptp(lift["missed"].off) < 0.1, "the cube stays where it is"
    assert "arm" not in reach and "object" not in lift
    assert lift["arm"].steps[0] > 9 and push["arm"].steps[0] > 5 and push["object"].steps[0] == 0
    assert np.abs(lift["arm"].proprio[-1] - lift["demo"].proprio[-1]).max() < 0.3, "the hand is where it ends"


def test_scenes_survive_the_disk(played, tmp_path):
    scenes.save_scene(played[1], tmp_path / "one.npz")
    again = scenes.load_scene(tmp_path / "one.npz")
    assert (again.task, again.seed, again.instruction) == (played[1].task, played[1].seed, played[1].instruction)
    np.testing.assert_array_equal(again.goal_image, played[1].goal_image)
    assert again.takes.keys() == played[1].takes.keys()
    for name, part in again.takes.items():
        for key, value in vars(part).items():
            np.testing.assert_array_equal(value, getattr(played[1].takes[name], key))


def test_score_measures_every_frame(played):
    model = toy.ToyWorldModel()
    scored = score_scene(model, played[2])
    assert set(scored) == {"raw", "learned", "success"}
    for name, part in played[2].takes.items():
        assert all(len(one.distance[name]) == len(part.steps) for one in scored.values())
    raw, learned = scored["raw"].distance["demo"], scored["learned"].distance["demo"]
    np.testing.assert_allclose(learned**2 / model.embedding_dim, raw, rtol=1e-4)  # the toy's metric is the embedding
    assert (scored["success"].distance["demo"] <= 1).all()


def test_models_without_a_metric_are_measured_too(played, monkeypatch, tmp_path):
    class Old(toy.ToyWorldModel):
        metric = property()

    figures, _ = audit(Old(), played)
    assert set(figures) == {"raw", "success"}
    monkeypatch.setattr(reward_audit.checkpoint, "load", lambda name: Old())
    monkeypatch.setattr(scenes, "play_scene", lambda cell: pytest.fail("nothing is measured"))
    assert reward_figures("old", "metric_bounded", 1, tmp_path, 1) == {}


# --- command


@pytest.fixture
def no_physics(played, monkeypatch):
    def fake(cell):
        return replace(played[list(STANDARD).index(cell[0])], seed=cell[1])

    monkeypatch.setattr(scenes, "play_scene", fake)


def test_command_writes_table_figures_and_plot(no_physics, toy_folder, tmp_path):
    args = Arguments(toy_folder, tmp_path / "out", 2, cache=tmp_path / "cache", workers=1)
    report = audit_rewards(args)
    assert json.loads((tmp_path / "out" / "rewards.json").read_text()) == report
    assert report["command"] == command_line("studies.reward_audit", args), "whatever command ran it"
    assert report["seeds"] == [SEED, SEED + 1] and len(report["checkpoint_sha256"]) == 64
    raw = report["potentials"]["raw"]
    assert raw["rewards"] == ["energy", "progress", "bounded"] and set(raw["tasks"]) == set(STANDARD)
    assert raw["passes"] == (not raw["fails"])
    page = (tmp_path / "out" / "rewards.md").read_text()
    assert all(f"`{name}`" in page for rewards in POTENTIALS.values() for name in rewards) and "| raw " in page
    assert (tmp_path / "out" / "rewards.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((tmp_path / "cache").glob("*/*.npz"))) == 6


def test_scenes_are_played_once(no_physics, toy_folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    scenes.play_scenes(list(STANDARD), 1, SEED, cache, 1)
    monkeypatch.setattr(scenes, "play_scene", lambda cell: pytest.fail(f"{cell} was played again"))
    figures = reward_figures(toy_folder, "energy", 1, cache, 1)
    assert set(figures) == set(STANDARD)
    assert all(-1 <= row["reward_spearman"] <= 1 and 0 <= row["reward_pairwise"] <= 1 for row in figures.values())


def test_help_tells_what_a_reward_has_to_pass(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.command("studies.reward_audit", ["--help"])
    assert "for hiding the cube" in " ".join(capsys.readouterr().out.split())


def test_no_scenes_are_refused(toy_folder, tmp_path):
    with pytest.raises(ValueError, match="scenes=0"):
        audit_rewards(Arguments(toy_folder, tmp_path, 0))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audit_rewards(Arguments(str(tmp_path / "nowhere"), tmp_path, 1, cache=tmp_path))

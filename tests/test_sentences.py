"""A sentence of one's own at reset: it means the same in both worlds."""

import numpy as np
import pytest
from dreams import assert_same

from dream_env.language import embed
from dream_env.nicol.dream import NicoLDreamEnv, NicoLDreamVectorEnv
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.language import COLORS, color_of, colors_of
from dream_env.nicol.layout import COLOR_NAMES, Layout
from dream_env.nicol.tasks import TASKS, task_of


@pytest.fixture
def real():
    env = NicoLRealEnv("reach")
    yield env
    env.close()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_sentence_of_the_grammars_asks_for_its_task(split):
    for name, task in TASKS.items():
        for color, other in zip(COLORS, reversed(COLORS), strict=True):
            second = other if task.grammar.cubes == 2 else None
            assert {task_of(sentence) for sentence in task.grammar.sentences(color, split, second)} == {name}


def test_other_words_are_taken_for_the_nearest_task():
    assert task_of("grab the red cube") == "lift"
    assert task_of("could you shove the green box away from you") == "push"
    assert task_of("get your hand over the ruby cube") == "reach"
    assert task_of("put the red cube where the image shows it") == "place"
    assert task_of("put the red cube on top of the blue one") == "stack"
    assert task_of("stack the yellow box upon the green block") == "stack"
    assert task_of("bring the red and the green cube to their goals") == "arrange"
    with pytest.raises(ValueError, match="names no color"):
        task_of("make me a sandwich")


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        (
            "paint the red cube",
            "too far from every known one; the nearest is 'put the red cube down as the picture shows'",
        ),
        ("make me a sandwich, red", "too far from every known one"),
        ("qwxyz red", "does not say what to do; accepted: sentences like 'reach for the red cube'"),
        ("never touch the red cube", "says what not to do .'never'"),
        ("don\u2019t lift the red cube", "says what not to do"),
        ("do not push the red cube away", "says what not to do"),
        ("lift the red cube and push it over the line", "gives two commands .push and lift"),
        ("reach for the red cube then wait", "gives two commands"),
        ("lift the red cube and put it down", "gives two commands"),
        ("lift the red cube onto the blue one", "names 2 colors; accepted by 'lift': 1"),
        ("stack the red cube", "names 1 colors; accepted by 'stack': 2"),
        ("swap the red, the green and the blue cube", "names 3 colors"),
    ],
)
def test_a_sentence_that_asks_for_nothing_known_is_refused_in_both_worlds(real, toy_folder, sentence, why):
    with pytest.raises(ValueError, match=why):
        task_of(sentence)
    for env in (real, NicoLDreamEnv("reach", world_model=toy_folder)):
        with pytest.raises(ValueError, match=why):
            env.reset(seed=0, options={"instruction": sentence})


def test_marks_of_writing_direction_do_not_count():
    assert task_of("\u200flift the r\u200fed cube\u200e") == "lift"
    np.testing.assert_array_equal(embed("lift the r\u200fed cube"), embed("lift the red cube"))


def test_a_sentence_sets_the_task_in_physics_and_puts_its_cube_on_the_table(real):
    for seed in range(6):
        real.reset(seed=seed, options={"instruction": "lift the yellow cube"})
        assert (real.task_name, real.instruction) == ("lift", "lift the yellow cube")
        assert COLOR_NAMES[real.layout.colors[real.target]] == "yellow"
        assert len(set(real.layout.colors.tolist())) == 3
    real.reset(seed=0, options={"instruction": "lift the yellow cube", "task": "push"})
    assert real.task_name == "push"
    real.reset(seed=0)
    assert real.task_name == "reach"


def test_a_layout_of_ones_own_has_to_have_the_color(real):
    layout = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"lift the yellow cube.*on this table are \['red', 'green', 'blue'\]"):
        real.reset(seed=0, options={"instruction": "lift the yellow cube", "layout": layout})


def test_a_refused_reset_leaves_the_episode_as_it_is(real):
    real.reset(seed=0)
    real.step(np.ones(4))
    before = real.get_state()
    with pytest.raises(ValueError, match="names no color"):
        real.reset(options={"task": "push", "instruction": "make me a sandwich"})
    after = real.get_state()
    same = ("task_name", "instruction", "spoken", "target", "start", "deltas")
    assert all(np.array_equal(before[key], after[key]) for key in same) and before["layout"] is after["layout"]


@pytest.mark.parametrize("options", [{"start": 99_999}, {"instruction": "lift the yellow cube"}, {"task": "juggle"}])
def test_a_refused_reset_leaves_dreams_as_they_are(toy_folder, options):
    envs = NicoLDreamVectorEnv(2, "all", world_model=toy_folder)
    envs.reset(seed=0)
    envs.step(np.ones((2, 4)))
    single = NicoLDreamEnv("all", world_model=toy_folder)
    single.reset(seed=0)
    before, drawn = envs.get_state(), single.np_random.bit_generator.state
    with pytest.raises(ValueError, match=next(iter(options))):
        envs.reset(options=options)
    for seed in (None, 5):
        with pytest.raises(ValueError, match=next(iter(options))):
            single.reset(seed=seed, options=options)
    assert_same(before, envs.get_state())
    assert drawn == single.np_random.bit_generator.state
    other = NicoLDreamVectorEnv(2, "all", world_model=toy_folder)
    other.reset(seed=0)
    other.step(np.ones((2, 4)))
    assert_same(*({"instruction": each.reset()[0]["instruction"]} for each in (envs, other)))


def test_a_sentence_draws_a_start_whose_goal_shows_it(toy_folder):
    env = NicoLDreamEnv("reach", world_model=toy_folder)
    drawn = set()
    for seed in range(12):
        obs, _ = env.reset(seed=seed, options={"instruction": "lift the crimson box"})
        assert (env.task_name, env.instruction) == ("lift", "lift the crimson box")
        drawn.add(obs["goal"].tobytes())
    bank = env.dreams.initial_states
    red = np.array([color_of(str(one)) == "red" for one in bank.instruction])
    fitting = (bank.task == "lift") & red & (bank.step == 0)
    assert len(drawn) == len(set(bank.goal[fitting].tolist()))
    with pytest.raises(ValueError, match="no initial state of 'lift' names yellow"):
        env.reset(options={"instruction": "lift the yellow cube"})


def test_a_sentence_about_two_cubes_draws_a_start_about_both_in_their_order():
    env = NicoLDreamEnv("all", world_model="place_stack")
    states, said = env.dreams.initial_states, "stack the red cube on the blue cube"
    env.reset(seed=0, options={"instruction": said})
    assert (env.task_name, env.instruction) == ("stack", said)
    drawn = [env.dreams.fitting(said, None, chance) for chance in np.linspace(0, 0.99, 20)]
    assert {colors_of(str(states.instruction[row])) for row in drawn} == {("red", "blue")}
    assert {str(states.task[row]) for row in drawn} == {"stack"}


def test_a_sentence_is_part_of_the_goal_as_in_the_real_environment():
    env = NicoLDreamEnv("all", world_model="unlabelled")
    states, options = env.dreams.initial_states, {"start": 3, "instruction": "lift the red cube"}
    usual, _ = env.reset(seed=0, options={"start": 3})
    told, _ = env.reset(seed=0, options=options)
    shown = {name: part[states.goal[3]] for name, part in states.goal_observation.items()}
    given, _ = env.reset(seed=0, options={**options, "goal": shown})
    np.testing.assert_allclose(told["goal"], given["goal"], atol=1e-6)
    assert np.abs(usual["goal"] - told["goal"]).max() > 1e-3


def test_each_dream_may_have_a_sentence_of_its_own(toy_folder):
    envs = NicoLDreamVectorEnv(3, "reach", world_model=toy_folder)
    said = ["lift the red cube", "push the blue cube away", "lift the blue cube"]
    envs.reset(seed=0, options={"instruction": said})
    assert envs.instruction == tuple(said) and envs.task_name == ("lift", "push", "lift")
    single = NicoLDreamEnv("reach", world_model=toy_folder)
    for i, sentence in enumerate(said):
        obs, _ = single.reset(seed=i, options={"instruction": sentence})
        np.testing.assert_array_equal(obs["goal"], envs.dreams.observation()["goal"][i])
    with pytest.raises(ValueError, match="or one for each of 3"):
        envs.reset(options={"instruction": said[:2]})


def test_the_task_of_later_episodes_may_be_changed(toy_folder):
    for env in (NicoLDreamEnv("reach", world_model=toy_folder), NicoLDreamVectorEnv(2, world_model=toy_folder)):
        env.task = "lift"
        env.reset(seed=0)
        assert set(np.atleast_1d(env.task_name).tolist()) == {"lift"} and env.task == "lift"
        with pytest.raises(ValueError, match="task='juggle'"):
            env.task = "juggle"
        env.reset(seed=0, options={"task": "push"})
        assert set(np.atleast_1d(env.task_name).tolist()) == {"push"} and env.task == "lift"


def test_the_named_color_of_every_shipped_start_is_known():
    states = NicoLDreamEnv("all").dreams.initial_states
    assert {color_of(str(sentence)) for sentence in states.instruction} == set(COLORS)

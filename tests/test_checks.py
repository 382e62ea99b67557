"""Checks of arguments: every refusal is ours, and names what is accepted."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dream_env.checks import (
    check_action,
    check_actions,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_options,
    check_seed,
    check_seeds,
)

BOX = spaces.Box(np.array([-1, -2, 0], np.float32), np.array([1, 2, 5], np.float32))
DISCRETE = spaces.Discrete(3, start=1)
NO_ACTIONS = [
    "abc",
    {},
    None,
    [[1], [2, 3]],
    [1, "a", 2],
    np.zeros(3, complex),
    np.zeros(3, bool),
    np.full(3, np.nan),
    [0, np.inf, 0],
    np.zeros(4),
    np.zeros((1, 3)),
    [10**400, 0, 0],
    object(),
    torch.zeros(3, requires_grad=True),
    torch.zeros(3, dtype=torch.complex64),
    torch.zeros(2, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("action", NO_ACTIONS, ids=range(len(NO_ACTIONS)))
@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["box", "discrete"])
def test_what_is_no_action_is_refused_in_our_words(action, space):
    with pytest.raises(ValueError, match=r"^action.*accepted: "):
        check_action(action, space)
    with pytest.raises(ValueError, match=r"^actions.*accepted: "):
        check_actions([action, action], space, 2)


@pytest.mark.parametrize(
    "kind", [list, np.float64, np.float16, np.int8, torch.bfloat16, torch.float64, torch.int32], ids=str
)
def test_actions_of_every_number_type_are_clipped_float32(kind):
    given = [3, -1, 9]
    if isinstance(kind, torch.dtype):
        action = torch.tensor(given, dtype=kind)
    else:
        action = given if kind is list else np.array(given, kind)
    taken = check_action(action, BOX)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, [1, -1, 5])
    batch = check_actions(np.tile(given, (4, 1)), BOX, 4)
    assert batch.dtype == np.float32 and batch.shape == (4, 3)


def test_an_action_is_a_copy_and_beyond_float32_is_clipped():
    action = np.zeros(3, np.float32)
    check_action(action, BOX)[0] = 1
    assert action[0] == 0
    np.testing.assert_array_equal(check_action([1e300, 0, 0], BOX), [1, 0, 0])


def test_discrete_actions_are_integers_of_the_space():
    for action in (2, np.int64(2), np.array(2), torch.tensor(2)):
        taken = check_action(action, DISCRETE)
        assert taken == 2 and taken.shape == () and taken.dtype == np.int64
    assert check_actions([1, 3], DISCRETE, 2).tolist() == [1, 3]
    for wrong in (0, 4, 2.0, [2], True):
        with pytest.raises(ValueError, match="accepted: "):
            check_action(wrong, DISCRETE)


@pytest.mark.parametrize(
    "value", [np.array(["a", "b"]), np.array(["a"]), ["a"], {}, torch.ones(2), "c", None], ids=range(7)
)
def test_a_choice_is_one_of_those_accepted(value):
    with pytest.raises(ValueError, match="mode=.* is not known; accepted: 'a', 'b'"):
        check_choice("mode", value, ("a", "b"))
    check_choice("mode", np.str_("a"), ("a", "b"))
    check_choice("mode", np.int64(1), range(2))


def test_flags_and_numbers():
    check_flag("goal_env", np.bool_(True))
    for value in ("no", 1, None):
        with pytest.raises(ValueError, match="goal_env=.*True or False"):
            check_flag("goal_env", value)
    check_count("steps", np.int64(3), 1, 3)
    for value in (0, 4, 2.5, 2.0, "2", True, None):
        with pytest.raises(ValueError, match="steps=.*accepted: None, an integer, 1 to 3"):
            check_count("steps", value, 1, 3, beside="None, ")
    check_number("mass", np.float32(1))
    for value in (-1, np.nan, np.inf, "1", True, None, np.ones(2), 10**400):
        with pytest.raises(ValueError, match="mass="):
            check_number("mass", value)


def test_options_and_seeds():
    assert check_options(None, ("task",)) == {} and check_options({"task": 1}, ("task",)) == {"task": 1}
    for options in (3, [1], "task", {"layout": 1}, {1: 2}):
        with pytest.raises(ValueError, match="options.*task"):
            check_options(options, ("task",))
    assert check_seed(None) is None and type(check_seed(np.int64(3))) is int
    for seed in (-1, 1.0, "1", True, np.arange(2)):
        with pytest.raises(ValueError, match="seed=.*accepted: None, or an integer"):
            check_seed(seed)
    assert check_seeds(3, 2) == check_seeds(np.arange(3, 5), 2) == check_seeds((3, 4), 2) == [3, 4]
    assert check_seeds(None, 2) == [None, None] and check_seeds([None, np.int8(1)], 2) == [None, 1]
    for seeds in ([1], np.arange(3), "ab", [1, -1]):
        with pytest.raises(ValueError, match="seed.*accepted: "):
            check_seeds(seeds, 2)

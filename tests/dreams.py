"""What the tests of dreams share: forms of the environment, stepping, comparing."""

import numpy as np

FORMS = [
    {},
    {"obs_type": "pixels"},
    {"goal_env": True},
    {"reward": "success", "starts": "any"},
    {"reward": "progress", "disagreement_penalty": 0.1},
]
"""Arguments under which the environment has to keep its contract."""


def assert_same(one, other):
    """Compares two dicts of arrays bit for bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def assert_close(one, other):
    """Compares two dicts of arrays up to rounding."""
    assert one.keys() == other.keys()
    for name in one:
        if name == "pixels":  # a rounded color may fall to either side
            assert np.abs(one[name].astype(int) - other[name]).max() <= 1
        else:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name)


def run_to_end(envs, steps):
    """Steps with zero actions; returns truncations `(steps, B)` and the last infos."""
    flags = []
    for _ in range(steps):
        _, _, _, cut, info = envs.step(np.zeros((envs.num_envs, 4), np.float32))
        flags.append(cut)
    return np.array(flags), info

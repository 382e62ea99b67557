"""Process-wide settings of torch change no number of an environment or a policy, and raise nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dream_env  # noqa: F401  registers the ids
from dream_env.agents.nicol import vla
from dream_env.world_models import checkpoint


@contextmanager
def meta() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "double": double,
    "meta": meta,
    "no gradients": lambda: torch.set_grad_enabled(False),
    "inference": torch.inference_mode,
    "deterministic": lambda: torch.random.fork_rng([]),
}


def numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [one for key in sorted(value) for one in numbers(value[key])]
    return [one for part in value for one in numbers(part)] if isinstance(value, list | tuple) else [value]


def episode(env_id: str) -> list[Any]:
    """What an env and a policy in it say; all is loaded anew."""
    checkpoint._load.cache_clear()
    env = gym.make(env_id, world_model="state_grounded", render_mode="rgb_array")
    policy = vla.load("bc5")
    obs, _ = env.reset(seed=0)
    seen: list[Any] = [obs]
    for scale in (-1, 0, 1):
        action = policy.predict(obs)[0]
        obs, *rest = env.step(np.clip(action + 0.2 * scale, -1, 1))
        seen += [action, obs, *rest[:3], rest[3]["is_success"]]
    seen.append(env.render())
    env.close()
    return numbers(seen)


@pytest.fixture(scope="module", params=["NicoLDream-v0", "NicoLReal-v0"])
def usual(request: pytest.FixtureRequest) -> tuple[str, list[Any]]:
    return request.param, episode(request.param)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_torch_change_no_number(usual: tuple[str, list[Any]], setting: str) -> None:
    env_id, before = usual
    with SETTINGS[setting]():  # type: ignore[no-untyped-call]
        after = episode(env_id)
    assert len(before) == len(after) > 20
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


def test_an_env_made_in_inference_mode_goes_on_outside() -> None:
    with torch.inference_mode():
        checkpoint._load.cache_clear()
        env = gym.make("NicoLDream-v0")
        env.reset(seed=0)
        env.step(env.action_space.sample())
    env.step(env.action_space.sample())
    env.reset()
    model = checkpoint.load()
    assert not any(value.is_inference() for value in model.state_dict().values())


def test_loading_and_dreaming_draw_no_random_numbers_of_the_caller() -> None:
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    episode("NicoLDream-v0")
    assert torch.equal(torch.rand(3), drawn)


def test_processes_that_gymnasium_forks_do_not_wait_for_threads_of_torch():
    code = (
        "import gymnasium as gym, dream_env\n"
        "envs = gym.vector.AsyncVectorEnv([lambda: gym.make('NicoLDream-v0')] * 2, context='fork')\n"
        "envs.reset(seed=0)\n"
        "envs.close()\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "2"}, check=True, timeout=60)

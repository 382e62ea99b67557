"""A training run goes on from a file that holds no code: weights, optimizers, counters, generators, replay buffer."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO, SAC, TD3

from dream_env.agents.run.sb3_state import RESUMED_SEED, load_algorithm_into, save_algorithm

ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
    "a2c": (A2C, {"n_steps": 16}),
    "sac": (SAC, {"learning_starts": 8, "batch_size": 8, "buffer_size": 200}),
    "sac, fixed": (SAC, {"learning_starts": 8, "batch_size": 8, "buffer_size": 20, "ent_coef": 0.1}),
    "td3": (TD3, {"learning_starts": 8, "batch_size": 8, "buffer_size": 200}),
}


def make(name: str, seed: int = 0) -> Any:
    algorithm, options = ALGORITHMS[name]
    return algorithm("MlpPolicy", "Pendulum-v1", seed=seed, policy_kwargs={"net_arch": [8]}, **options)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


@pytest.fixture(params=ALGORITHMS)
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, Path]:
    """An algorithm after some steps, and its file."""
    model = make(request.param).learn(64)
    assert save_algorithm(model, tmp_path / "checkpoint.safetensors")
    return request.param, model, tmp_path / "checkpoint.safetensors"


def test_everything_that_was_learned_goes_on(trained: tuple[str, Any, Path]) -> None:
    name, model, file = trained
    torch_drawn, numpy_drawn, drawn = torch.rand(2), np.random.random(2), random.random()
    again = make(name, seed=7)
    assert load_algorithm_into(again, file)
    assert torch.equal(torch.rand(2), torch_drawn) and random.random() == drawn
    assert np.array_equal(np.random.random(2), numpy_drawn)
    assert min(again.get_env()._seeds) >= RESUMED_SEED, "not an episode that evaluation holds out"
    assert again.num_timesteps == model.num_timesteps and again._n_updates == model._n_updates
    for key, value in weights(model).items():
        assert torch.equal(value, again.policy.state_dict()[key])
    for part in model._get_torch_save_params()[0]:
        if part.endswith("optimizer"):
            before, after = (_optimizer(one, part).state_dict() for one in (model, again))
            assert before["param_groups"] == [
                {k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in after["param_groups"]
            ]
            assert before["state"].keys() == after["state"].keys()
            for index, values in before["state"].items():
                assert all(
                    torch.equal(torch.as_tensor(v), torch.as_tensor(after["state"][index][k]))
                    for k, v in values.items()
                )
    if getattr(model, "replay_buffer", None) is not None:
        assert again.replay_buffer.size() == model.replay_buffer.size() > 0
        assert np.array_equal(again.replay_buffer.observations, model.replay_buffer.observations)
    again.learn(64, reset_num_timesteps=False)
    assert again.num_timesteps >= 128


def _optimizer(model: Any, name: str) -> torch.optim.Optimizer:
    for part in name.split("."):
        model = getattr(model, part)
    return model


def test_two_that_go_on_from_one_file_are_equal(trained: tuple[str, Any, Path]) -> None:
    name, _, file = trained
    ends = []
    for _ in range(2):
        model = make(name)
        load_algorithm_into(model, file)
        ends.append(weights(model.learn(64, reset_num_timesteps=False)))
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_a_large_replay_buffer_is_left_out_and_this_is_told(tmp_path: Path) -> None:
    model = make("sac").learn(64)
    file = tmp_path / "checkpoint.safetensors"
    assert save_algorithm(model, file, buffer_bytes=100) is False
    again = make("sac")
    assert load_algorithm_into(again, file) is False and again.replay_buffer.size() == 0


class Poison:
    def __reduce__(self) -> tuple[Any, ...]:  # noqa: D105
        return os.mkdir, ("poisoned",)


def poisoned() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Poison()))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps(Poison()), poisoned()])
def test_a_damaged_or_poisoned_file_runs_nothing_and_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged.*delete it to begin again") as caught:
        load_algorithm_into(make("ppo"), file)
    assert "\n" not in str(caught.value) and not (tmp_path / "poisoned").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_algorithm_into(make("ppo"), tmp_path / "nowhere")


def test_a_truncated_file_and_that_of_another_algorithm_are_named(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_algorithm(make("ppo"), file)
    with pytest.raises(ValueError, match="of another algorithm"):
        load_algorithm_into(make("sac"), file)
    os.truncate(file, 3000)
    with pytest.raises(ValueError, match="is damaged"):
        load_algorithm_into(make("ppo"), file)

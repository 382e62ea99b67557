"""Saves and restores the training state of a Stable-Baselines3 algorithm, as safetensors and JSON instead of pickle.

The file holds weights, optimizers, counters, statistics of the last episodes, the states of this process's random
number generators and, if it is not too large, the replay buffer. It does not hold the environments: a resumed run
starts new episodes, so it differs from an uninterrupted run as a run with another seed does.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr, recursive_setattr

from dream_env.files import replacing

CHECKPOINT = "checkpoint.safetensors"
"""Name of the file in a run's folder."""
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
"""Counters of an algorithm that are saved."""
RESUMED_SEED = 2**30
"""Offset of the environments' seeds in a resumed run, far above those of data, validation and evaluation."""
BUFFER_BYTES = 2**28
"""Size in bytes of the largest replay buffer that is saved."""
_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_algorithm(model: BaseAlgorithm, path: str | Path, buffer_bytes: int = BUFFER_BYTES) -> bool:
    """Writes the state of an algorithm to a file, atomically.

    Args:
        model: PPO, SAC or another algorithm, between two rollouts.
        path: File (.safetensors).
        buffer_bytes: Size in bytes of the largest replay buffer that is written.

    Returns:
        True if the state is complete; False if the replay buffer was too large and was left out.
    """
    modules, variables = model._get_torch_save_params()
    tensors: dict[str, torch.Tensor] = {}
    about: dict[str, Any] = {"counters": {name: getattr(model, name, None) for name in COUNTERS}}
    about["episodes"] = [_plain(model.ep_info_buffer), _plain(model.ep_success_buffer)]
    about["generators"] = _generators(tensors)
    for name in modules:
        state = recursive_getattr(model, name).state_dict()
        if isinstance(recursive_getattr(model, name), torch.optim.Optimizer):
            about[name] = {"groups": state["param_groups"], "numbers": []}
            for index, values in state["state"].items():
                for key, value in values.items():
                    if isinstance(value, torch.Tensor):
                        tensors[f"{name}/{index}/{key}"] = value
                    else:
                        about[name]["numbers"].append([index, key, value])
        else:
            tensors |= {f"{name}/{key}": value for key, value in state.items()}
    tensors |= {f"variable/{name}": recursive_getattr(model, name) for name in variables}
    buffer = getattr(model, "replay_buffer", None)
    kept = True
    if buffer is not None:
        arrays = dict(_arrays(buffer))
        kept = sum(array.nbytes for array in arrays.values()) <= buffer_bytes
        if kept:
            about["buffer"] = [buffer.pos, bool(buffer.full)]
            tensors |= {f"buffer/{name}": torch.from_numpy(array) for name, array in arrays.items()}
    cpu = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as part:
        save_file(cpu, part, {"state": json.dumps(about)})
    return kept


def load_algorithm_into(model: BaseAlgorithm, path: str | Path) -> bool:
    """Loads the state that `save_algorithm` wrote into a new algorithm.

    Args:
        model: A new algorithm, created with the same arguments. Its environments get a new seed.
        path: The file.

    Returns:
        True if the state is complete; False if the file lacks the algorithm's replay buffer.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged or belongs to another algorithm. Do not use the model after this error.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; accepted: the file that a training run left")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _restore(model, about, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is damaged, or the state of another algorithm ({words}); delete it to begin again"
        ) from error


def _restore(model: BaseAlgorithm, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bool:
    def under(name: str) -> dict[str, torch.Tensor]:
        return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}/")}

    modules, variables = model._get_torch_save_params()
    for name in modules:
        holder = recursive_getattr(model, name)
        if not isinstance(holder, torch.optim.Optimizer):
            holder.load_state_dict(under(name))
            continue
        state: dict[int, dict[str, Any]] = {}
        for key, value in under(name).items():
            index, _, entry = key.partition("/")
            state.setdefault(int(index), {})[entry] = value
        for index, entry, number in about[name]["numbers"]:
            state.setdefault(int(index), {})[entry] = number
        holder.load_state_dict({"state": state, "param_groups": about[name]["groups"]})
    for name in variables:
        recursive_setattr(model, f"{name}.data", tensors[f"variable/{name}"].to(model.device))
    for name, value in about["counters"].items():
        if value is not None:
            setattr(model, name, value)
    for target, values in zip(("ep_info_buffer", "ep_success_buffer"), about["episodes"], strict=True):
        if values is not None:
            setattr(model, target, deque(values, maxlen=model._stats_window_size))
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None and "buffer" in about:
        for name, array in _arrays(buffer, whole=True):
            stored = tensors[f"buffer/{name}"].numpy()
            array[: len(stored)] = stored
        buffer.pos, buffer.full = int(about["buffer"][0]), bool(about["buffer"][1])
    # Neither the episodes from the start of the run again, nor held-out ones.
    model.set_random_seed(RESUMED_SEED + ((model.seed or 0) + model.num_timesteps) % RESUMED_SEED)
    _set_generators(about["generators"], tensors)
    return buffer is None or "buffer" in about


def _plain(values: Any) -> list[Any] | None:
    """Converts the statistics of episodes to JSON types."""
    if values is None:
        return None
    return json.loads(json.dumps(list(values), default=lambda value: value.item() if hasattr(value, "item") else None))


def _arrays(buffer: Any, whole: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and arrays of a replay buffer: their filled part, or all rows if `whole`."""
    count = buffer.buffer_size if whole or buffer.full else buffer.pos
    for name in _ARRAYS:
        value = getattr(buffer, name, None)
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for key, array in parts:
            if isinstance(array, np.ndarray):
                yield f"{name}/{key}", array[:count]


def _generators(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Returns the states of Python's and NumPy's random number generators, and adds torch's states to `tensors`."""
    tensors["generator/torch"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors["generator/cuda"] = torch.cuda.get_rng_state()
    version, words, gauss = random.getstate()
    name, key, *rest = np.random.get_state(legacy=True)
    return {"python": [version, list(words), gauss], "numpy": [name, np.asarray(key).tolist(), *rest]}


def _set_generators(states: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(tensors["generator/torch"])
    if "generator/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator/cuda"])
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, *rest = states["numpy"]
    np.random.set_state((name, np.array(key, np.uint32), *rest))

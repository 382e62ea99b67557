"""Other wrappers of the same world model, for comparison: TorchRL's `WorldModelEnv`, Gymnasium's `SyncVectorEnv`."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from dream_env.agents.studies.bench.cases import encode_starts, first_state
from dream_env.agents.studies.bench.clock import Case, Work
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.rewards import METRIC_SCALE
from dream_env.world_models import checkpoint

TORCHRL, SYNC = "TorchRL WorldModelEnv", "gymnasium SyncVectorEnv"


def torchrl_env(num_envs: int, world_model: str, device: str) -> Work:
    """Prepares steps of the world model in TorchRL's `WorldModelEnv` (0.14), one episode at a time.

    It computes the same as `NicoLDream-v0`: next state, reward by the learned metric, predicted success. That env has
    no initial states, so every episode starts from the same state, which takes no time.

    Args:
        num_envs: Batch size.
        world_model: Checkpoint of the world model.
        device: Device of the world model.
    """
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.data import Binary, Composite, Unbounded
    from torchrl.envs.model_based import WorldModelEnv
    from torchrl.envs.utils import step_mdp
    from torchrl.modules import WorldModel

    model = checkpoint.load(world_model, device)
    kept, actions = first_state(model, num_envs, words=True)

    def dynamics(action: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        state, prediction = model.step(dict(zip(kept, parts, strict=True)), action)
        return *(state[name] for name in kept), prediction.success[:, None]

    def head(goal: Tensor, *parts: Tensor) -> Tensor:
        vector = model.metric(dict(zip(kept, parts, strict=True)))
        return torch.exp(-(vector - goal).square().sum(-1, keepdim=True).sqrt() / METRIC_SCALE)

    moved = [("next", name) for name in kept]
    world = WorldModel(
        TensorDictModule(lambda picture: picture, in_keys=["picture"], out_keys=["tokens"]),  # never called
        TensorDictModule(dynamics, in_keys=["action", *kept], out_keys=[*moved, ("next", "success")]),
        TensorDictModule(head, in_keys=["goal", *moved], out_keys=[("next", "reward")]),
    )

    def spec(**shapes: Any) -> Any:
        return Composite({name: Unbounded(shape, device=device) for name, shape in shapes.items()}, shape=(num_envs,))

    flag = Binary(shape=(num_envs, 1), dtype=torch.bool, device=device)
    # WorldModelEnv copies its specs from another env; version 0.14 requires them complete, with the batch size.
    specs = SimpleNamespace(
        batch_size=torch.Size([num_envs]),
        device=torch.device(device),
        action_spec=spec(action=actions.shape),
        reward_spec=spec(reward=(num_envs, 1)),
        done_spec=Composite({"done": flag, "terminated": flag.clone()}, shape=(num_envs,)),
        observation_spec=spec(**{name: part.shape for name, part in kept.items()}, success=(num_envs, 1)),
    )
    env = WorldModelEnv(world, specs, latent_key="tokens")
    with torch.inference_mode():
        start = TensorDict({**kept, "goal": model.metric(kept)}, batch_size=[num_envs], device=device)

    @torch.inference_mode()
    def episode() -> int:
        now = env.reset(start)
        for _ in range(EPISODE_STEPS):
            now["action"] = actions
            now = step_mdp(env.step(now), keep_other=True)
        return num_envs * EPISODE_STEPS

    return episode


def sync_vector(num_envs: int, world_model: str) -> Work:
    """Prepares steps of Gymnasium's `SyncVectorEnv` around single dreams, which share the model's weights."""
    kwargs: dict[str, Any] = {"task": "all", "world_model": world_model}
    envs = gym.make_vec("NicoLDream-v0", num_envs=num_envs, vectorization_mode="sync", **kwargs)
    encode_starts(world_model, "cpu")
    envs.reset(seed=0)
    actions = envs.action_space.sample()

    def step() -> int:
        envs.step(actions)
        return num_envs

    return step


def peer_cases(batches: tuple[int, ...], world_model: str) -> list[Case]:
    """Returns the cases of the peers: TorchRL's if it is installed, Gymnasium's for batches that take only seconds."""
    own = {"world_model": world_model}
    rows = [Case(SYNC, sync_vector, batch, own) for batch in batches if batch <= 256]
    if importlib.util.find_spec("torchrl"):
        arguments = {**own, "device": "cpu"}
        rows += [Case(TORCHRL, torchrl_env, batch, arguments, compared=f"batch {batch}") for batch in batches]
    return rows

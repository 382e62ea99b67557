"""The VLA (vision-language-action) policy: a small trained network on frozen vision tokens and sentence embeddings.

`VLA` is the policy that is cloned, trained, shipped and evaluated. `dream_env.agents.policies.actors` uses the same
network as the actor of stable-baselines3 algorithms. The goal image is not an input: the task is given by the
instruction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from dream_env.agents.policies import encoder_id, registry
from dream_env.checks import check_bounds
from dream_env.language import INSTRUCTION_DIM, embedder
from dream_env.nicol.constants import ACTION_NAMES, PROPRIO_NAMES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.world_model.state_estimator import CUBE, StateEstimator, TargetSelector
from dream_env.observations import observation_space, to_tensors
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated
from dream_env.world_models.readout import LanguageReadout

INPUTS = ("embedding", "proprio", "instruction")
"""Entries of the observation that the VLA reads."""
OBJECT_STATE_KEYS = {"embedding": "object_state", "goal": "goal_object_state"}
"""Observation entries that hold tokens, and the entries with which
`dream_env.agents.nicol.object_state.ObjectStateVecEnv` replaces them."""
_BOUNDS = (
    ("channels", 1, 4096),
    ("grid", 1, 256),
    ("queries", 0, 4096),
    ("values", 1, 4096),
    ("width", 1, 4096),
    ("sentences", 0, 1_000_000),
    ("hidden", 1, 16_384),
)
_SIMILAR = 0.25
"""Cosine similarity above which a sentence is replaced by the nearest known one; sentences of the test split have at
least 0.32."""


@dataclass(frozen=True)
class VLAConfig:
    """Sizes of the VLA.

    Attributes:
        channels: Channels of one vision token.
        grid: Side of the square token map.
        queries: Number of language queries that attend over the tokens; 0 for no such readout, which requires `reads`.
        values: Number of channels that each query returns.
        width: Width of the readout's keys and queries.
        reads: Whether the VLA reads the target's object state, with a frozen copy of the world model's estimator.
        sentences: Number of known sentences, see `nearest_known`; 0 uses every sentence as it is.
        hidden: Width of the two hidden layers.
        std: Standard deviation of the stochastic policy, the same for all four actions.
        world_model: Name or folder of the world model whose encoder computes the tokens.
        encoder_id: Fingerprint of that world model's encoder, see `dream_env.agents.policies.encoder_id`; None for
            older policies that were saved without one.

    Raises:
        ValueError: If a size or the standard deviation is not a number of the accepted kind.
    """

    RENAMED: ClassVar[dict[str, str]] = {"eyes": "encoder_id"}
    """Names of fields before version 0.2, and their current names."""

    channels: int = 16
    grid: int = 8
    queries: int = 8
    values: int = 4
    width: int = 32
    reads: bool = False
    sentences: int = 0
    hidden: int = 128
    std: float = 0.17
    world_model: str = "state_grounded"
    encoder_id: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Checks that sizes are within bounds and the standard deviation is positive."""
        check_bounds(self, _BOUNDS)
        if not isinstance(self.std, float | int) or not 0 < self.std < math.inf:
            raise ValueError(f"std={self.std!r}; accepted: a positive number")

    @property
    def embedding_dim(self) -> int:
        """Length of the flattened token map."""
        return self.grid**2 * self.channels

    def check_encoder(self, world_model: str) -> None:
        """Checks that a world model has the image and text encoders with which the policy was trained.

        Args:
            world_model: Name or folder of the world model to run the policy with. Policies without an `encoder_id`
                accept every world model.

        Raises:
            ValueError: If the world model's encoder or sentence embeddings differ.
        """
        if self.encoder_id is not None:
            encoder_id.check(self.encoder_id, self.world_model, world_model)


class Trunk(BaseFeaturesExtractor):
    """The VLA's feature extractor, with two hidden layers.

    Its inputs are the set-point, the instruction, the tokens through a language-conditioned readout (`queries`), and
    the target's object state (`reads`).

    Args:
        space: Observation space.
        config: Sizes.

    Raises:
        ValueError: If the space lacks an entry that the VLA reads, the embedding has the wrong size, or the VLA has
            neither `queries` nor `reads`.
    """

    def __init__(self, space: spaces.Dict, config: VLAConfig) -> None:
        super().__init__(space, config.hidden)
        given = OBJECT_STATE_KEYS["embedding"] in space.spaces
        if missing := set(INPUTS) - set(space.spaces) - ({"embedding"} if given else set()):
            raise ValueError(f"observation space lacks {sorted(missing)}; a VLA reads {INPUTS}")
        if not given and space["embedding"].shape != (config.embedding_dim,):
            raise ValueError(
                f"observation space has embeddings {space['embedding'].shape}; "
                f"accepted by {config}: ({config.embedding_dim},)"
            )
        if given and config.queries:
            raise ValueError(
                f"observation space has the object state instead of tokens, which queries={config.queries} needs; "
                "accepted: a VLA with queries=0, or environments without ObjectStateVecEnv"
            )
        if not (config.queries or config.reads):
            raise ValueError("queries=0 and reads=False: the VLA has no visual input; accepted: at least one of them")
        self.channels = config.channels
        inputs = len(PROPRIO_NAMES) + INSTRUCTION_DIM
        self.readout: LanguageReadout | None = None
        if config.queries:
            sizes = (config.grid, config.queries, config.values, config.width)
            self.readout = LanguageReadout(config.channels, INSTRUCTION_DIM, *sizes)
            inputs += self.readout.output_dim
        self.state_estimator: StateEstimator | None = None
        if config.reads:  # frozen weights; gradients still flow to its inputs
            self.state_estimator = StateEstimator(config.channels, config.grid).requires_grad_(False)
        self.target_selector = TargetSelector() if config.reads else None
        inputs += len(CUBE) if config.reads else 0
        self.layers = mlp(inputs, config.hidden, config.hidden)
        self.known: Tensor
        self.register_buffer("known", torch.zeros(config.sentences, INSTRUCTION_DIM), persistent=config.sentences > 0)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to features `(B, hidden)`."""
        prepared = OBJECT_STATE_KEYS["embedding"] in obs
        words = obs["instruction"] if prepared else nearest_known(obs["instruction"], self.known)
        parts = []
        if self.readout is not None:
            parts.append(self.readout(obs["embedding"].unflatten(-1, (-1, self.channels)), words))
        parts += [obs["proprio"], words]
        if self.state_estimator is not None and self.target_selector is not None:
            parts.append(self.target_selector(object_state(self.state_estimator, obs, "embedding"), words))
        return self.layers(torch.cat(parts, dim=-1))


def object_state(estimator: StateEstimator, obs: Mapping[str, Tensor], part: str) -> Tensor:
    """Returns the object state of an observation entry: the given one, or an estimate.

    Args:
        estimator: State estimator of a VLA or its critic.
        obs: Batch of observations that has the entry `part`, `(B, E)`, or its object state.
        part: "embedding" or "goal".

    Returns:
        Object states `(B, R)`, see `dream_env.nicol.world_model.state_estimator`. Gradients flow to the entry.
    """
    given = OBJECT_STATE_KEYS[part]
    return obs[given] if given in obs else estimator(obs[part].unflatten(-1, (estimator.grid**2, -1)))


@torch.no_grad()
def nearest_known(instruction: Tensor, known: Tensor) -> Tensor:
    """Replaces sentence embeddings by the nearest embedding, in cosine similarity, of the training sentences.

    Sentences with the same meaning are closest to each other (`python -m agents.studies.phrasings`), but a network that
    was trained on a few hundred sentences does not generalize to embeddings next to them.

    Args:
        instruction: Embeddings `(B, I)`.
        known: Embeddings of the training sentences, `(S, I)`; if S is 0, nothing is replaced.

    Returns:
        Embeddings `(B, I)`. Those that are not similar to any known sentence are unchanged.
    """
    if not len(known):
        return instruction
    similarity, nearest = (F.normalize(instruction) @ F.normalize(known).T).max(1)
    return torch.where((similarity > _SIMILAR)[:, None], known[nearest], instruction)


def mlp(*widths: int) -> nn.Sequential:
    """Returns linear layers with the given widths, each followed by a GELU."""
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(layer for a, b in pairs for layer in (nn.Linear(a, b), nn.GELU())))


class VLA(nn.Module):
    """The policy network, from vision, language and proprioception to an action.

    Args:
        config: Sizes; None for the defaults, which fit the default world model.
    """

    RENAMED_WEIGHTS: ClassVar[dict[str, str]] = {
        "trunk.reader.look.": "trunk.state_estimator.attention.",
        "trunk.reader.": "trunk.state_estimator.",
        "trunk.named.": "trunk.target_selector.",
    }
    """Prefixes of weight names before version 0.2, and their current prefixes."""
    kind = "vla"
    config_class = VLAConfig
    inputs = INPUTS

    def __init__(self, config: VLAConfig | None = None) -> None:
        super().__init__()
        self.config = config or VLAConfig()
        self.space: spaces.Dict = observation_space(SPEC, self.config.embedding_dim, ("proprio",))  # type: ignore[assignment]
        self.trunk = Trunk(self.space, self.config)
        self.action = nn.Linear(self.config.hidden, len(ACTION_NAMES))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.action.weight.device

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to mean actions `(B, 4)` in [-1, 1]."""
        return torch.tanh(self.action(self.trunk(obs)))

    @insulated
    @torch.no_grad()
    def predict(
        self,
        observation: Mapping[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Chooses actions, with the signature of stable-baselines3's `predict`.

        Args:
            observation: One observation of the dream or of physics, or a batch of them.
            state: Returned unchanged, since the VLA has no memory.
            episode_start: Ignored, since the VLA has no memory.
            deterministic: Whether to return the mean action; otherwise the action is sampled around it with torch's
                global generator.

        Returns:
            Actions `(4,)` or `(B, 4)` in [-1, 1], and `state`.

        Raises:
            ValueError: If an entry of the observation is missing or has the wrong shape.
        """
        if missing := set(INPUTS) - set(observation):
            raise ValueError(f"observation lacks {sorted(missing)}; a VLA reads {INPUTS}")
        arrays = {key: np.asarray(observation[key], np.float32) for key in INPUTS}
        single = arrays["proprio"].ndim == 1
        for key, array in arrays.items():
            (length,) = self.space[key].shape or ()
            if array.ndim != (1 if single else 2) or array.shape[-1] != length:
                raise ValueError(
                    f"observation[{key!r}] has shape {array.shape}; "
                    f"accepted: ({length},), or (B, {length}) in all parts"
                )
        batch = {key: np.atleast_2d(array) for key, array in arrays.items()}
        action = self({k: torch.tensor(a, device=self.device) for k, a in batch.items()})
        if not deterministic:
            action = torch.normal(action, self.config.std).clip(-1, 1)
        return (action[0] if single else action).cpu().numpy(), state

    def reset(self) -> None:
        """Does nothing, since the VLA has no memory."""

    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Chooses actions `(B, 4)` for observations `(B, ...)`, see `dream_env.agents.policies.protocol.Policy`."""
        return self.predict(observation, deterministic=deterministic)[0]

    @insulated
    @torch.no_grad()
    def act_on(self, seen: Mapping[str, Any], sentence: str = "", goal: Mapping[str, Any] | None = None) -> np.ndarray:
        """Chooses the action for one camera image and instruction, using the policy's world model as the encoder.

        Args:
            seen: `pixels`, the image of the policy camera `(64, 64, 3)` uint8, and `proprio`, the normalized set-point
                `(4,)`, see `dream_env.nicol.constants.normalize`.
            sentence: The instruction, such as "grab the red cube".
            goal: Not used, as the VLA does not read goals; other policies with this method do.

        Returns:
            The mean action `(4,)` in [-1, 1].

        Raises:
            ValueError: If the world model's encoder differs from the one that the policy was trained with.
        """
        self.config.check_encoder(self.config.world_model)
        model = checkpoint.load(self.config.world_model, str(self.device))
        state = model.encode(to_tensors({name: seen[name] for name in SPEC.observation.spaces}, self.device))
        embedding = model.embedding(state)[0].cpu().numpy()
        obs = {"embedding": embedding, "proprio": seen["proprio"], "instruction": embedder(model)(sentence)}
        return self.predict(obs)[0]


def save(policy: VLA, path: str | Path, card: str) -> None:
    """Saves a VLA as `config.json`, `model.safetensors` and a card with the text `card`."""
    registry.save(policy, path, card)


def load(path: str | Path = "state_grounded", device: str | torch.device = "cpu") -> VLA:
    """Loads a VLA; see `dream_env.agents.policies.registry.load`, which loads every kind of policy.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged, or the policy is not a VLA.
    """
    policy = registry.load(path, device)
    if not isinstance(policy, VLA):
        raise ValueError(f"policy={str(path)!r} is of kind {policy.kind!r}; accepted: a VLA, see `agents.clone`")
    return policy

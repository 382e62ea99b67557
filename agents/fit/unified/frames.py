"""Recorded episodes as the tokens of a unified model, and what is wrong about predicted tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from dream_env.agents.clone.encoded_frames import EncodedFrames, encode
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.encoded import encoded
from dream_env.agents.fit.slots.errors import slot_error
from dream_env.agents.fit.slots.stages import before_moves
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import replacing
from dream_env.world_models.protocol import State
from dream_env.world_models.slots.reader import FEATURES, SEEN
from dream_env.world_models.unified.model import TOKENS, UnifiedModel


class Shown:
    """A base model, with its dynamics, that shows tokens beside its embedding as a unified model does.

    Args:
        base: The base model.
        model: A unified model around it.
    """

    def __init__(self, base: Any, model: UnifiedModel) -> None:
        self.base, self.tokens = base, model.tokens
        self.observed, self.observed_spaces = model.observed, model.observed_spaces

    def __getattr__(self, name: str) -> Any:
        """Returns what else the base model has."""
        return getattr(self.base, name)

    def encode(self, observation: Any, previous: State | None = None) -> State:
        """Encodes observations, and adds tokens."""
        state = self.base.encode(observation, previous)
        return {**state, TOKENS: self.tokens.of(state)[0].flatten(1)}


class Frames(Protocol):
    """What the fit asks for a kind of tokens."""

    def read(self, model: UnifiedModel, data: EpisodeDataset) -> Recorded:
        """Returns episodes whose observations are `tokens` `(F, T, n)`, `own` `(F, P)` and `visible`."""

    def wrong(self, model: UnifiedModel, found: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
        """Returns the error `(B,)` of predicted tokens.

        Args:
            model: The model.
            found: What is predicted, `(B, T, n)`.
            truth: What was before and after it, `(B, 2, T, n)`.
            visible: Which of that is seen after it.
        """

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """Returns the frames soon after which something moves, from which more windows begin; none for all alike."""


class SlotFrames:
    """Slots; what is hidden for a while is filled in between the times at which it was seen."""

    def read(self, model: UnifiedModel, data: EpisodeDataset) -> Recorded:
        """See `Frames`."""
        found = encoded(model.base, data)
        seen = {TOKENS: found.observation["slots"], "own": model.base.own_of(found.observation)}
        return replace(found, observation=seen | {"visible": found.observation["visible"]})

    def wrong(self, model: UnifiedModel, found: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
        """See `Frames`: in pixels, more of slots that moved."""
        return slot_error(model.base, found[None], truth[None], visible[None])[0]

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """See `Frames`."""
        return before_moves(
            model.base, replace(data, observation=data.observation | {"slots": data.observation[TOKENS]}), ahead
        )

    @staticmethod
    def visible(tokens: Tensor) -> Tensor:
        """Returns what of tokens `(..., T, n)` has been seen, `(..., T, C)`."""
        return tokens.unflatten(-1, (-1, FEATURES))[..., SEEN] > 0


class CodeFrames:
    """Codes; all of them are seen."""

    def read(self, model: UnifiedModel, data: EpisodeDataset) -> Recorded:
        """See `Frames`."""
        found = Recorded.of(data, model.base.config.picture_size)
        with torch.no_grad():
            parts = torch.arange(found.frames).split(1000)
            code = torch.cat(
                [model.base.encode({k: v[i] for k, v in found.observation.items()})["code"] for i in parts]
            )
        seen = {TOKENS: code[:, None], "own": code[:, :0], "visible": self.visible(code[:, None])}
        return replace(found, observation=seen)

    def wrong(self, model: UnifiedModel, found: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
        """See `Frames`: in units of recorded changes."""
        apart = (found - truth[:, 1]) / model.base.change_scale
        return F.smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.1, reduction="none").mean((-1, -2))

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """See `Frames`."""
        return torch.zeros(0, dtype=torch.int64)

    @staticmethod
    def visible(tokens: Tensor) -> Tensor:
        """Returns what of tokens `(..., T, n)` has been seen, `(..., T, 1)`."""
        return torch.ones(*tokens.shape[:-1], 1, dtype=torch.bool)


KINDS: dict[str, SlotFrames | CodeFrames] = {"slots": SlotFrames(), "dynamics": CodeFrames()}


def tokens_of(model: UnifiedModel, base: Any, data: EpisodeDataset, cache: Path | None) -> Recorded:
    """Returns episodes as tokens, see `Frames.read`; from the cache if they are there."""

    def make() -> dict[str, Tensor]:
        made = KINDS[model.config.base].read(model, data)
        return {name: part.contiguous() for name, part in made.observation.items()}

    seen = _cached(cache, "tokens", base, data, make)
    terminated = torch.zeros(int(data.offsets[-1]))
    terminated[torch.from_numpy(data.offsets[1:] - 2)] = torch.from_numpy(data.terminated).float()
    reward = None if data.reward is None else torch.from_numpy(data.reward)
    first, last = (torch.from_numpy(part) for part in (data.offsets[:-1], data.offsets[1:] - 1))
    return Recorded(seen, torch.from_numpy(data.action), reward, terminated, first, last)


def observations(model: UnifiedModel, base: Any, data: EpisodeDataset, cache: Path | None) -> EncodedFrames:
    """Returns episodes as policies see them, each frame with what came before it, and nothing of what came after."""
    found: list[EncodedFrames] = []

    def make() -> dict[str, Tensor]:
        made = encode(Shown(base, model), data)
        found.append(made)
        vectors = {f"vectors.{name}": part for name, part in made.vectors.items()}
        names = ("embedding", "target", "episode", "last", "goal", "instruction", "words")
        own = {name: getattr(made, name) for name in names if getattr(made, name) is not None}
        return {name: part.contiguous() for name, part in (vectors | own).items()}

    parts = _cached(cache, "observations", base, data, make)
    if found:
        return found[0]
    vectors = {name.removeprefix("vectors."): parts[name] for name in parts if name.startswith("vectors.")}
    own = {name: part for name, part in parts.items() if not name.startswith("vectors.")}
    return EncodedFrames(**({"goal": None} | own | {"vectors": vectors}))  # type: ignore[arg-type]


def _cached(
    folder: Path | None, name: str, base: torch.nn.Module, data: EpisodeDataset, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    if folder is None:
        return make()
    digest = hashlib.sha256()
    for part in (*base.state_dict().values(),):
        digest.update(part.cpu().numpy().tobytes())
    for array in (data.offsets, np.ascontiguousarray(data.action), data.seed):
        digest.update(np.ascontiguousarray(array).tobytes())
    file = folder / f"{name}-{digest.hexdigest()[:16]}.safetensors"
    if not file.exists():
        with replacing(file) as part_file:
            save_file(make(), part_file)
    return load_file(file)

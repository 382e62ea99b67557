"""Encodes recorded episodes as tokens of a unified model, and computes the errors of predicted tokens."""

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
    """Wraps a base model so that its states and observations also contain tokens, as those of a unified model do.

    Args:
        base: The base model, with its dynamics.
        model: A unified model around it.
    """

    def __init__(self, base: Any, model: UnifiedModel) -> None:
        self.base, self.tokens = base, model.tokens
        self.observed, self.observed_spaces = model.observed, model.observed_spaces

    def __getattr__(self, name: str) -> Any:
        """Returns all other attributes from the base model."""
        return getattr(self.base, name)

    def encode(self, observation: Any, previous: State | None = None) -> State:
        """Encodes observations, and adds tokens."""
        state = self.base.encode(observation, previous)
        return {**state, TOKENS: self.tokens.of(state)[0].flatten(1)}


class Frames(Protocol):
    """Functions that the fit needs for each kind of base model."""

    def read(self, model: UnifiedModel, data: EpisodeDataset) -> Recorded:
        """Encodes episodes; the observations are `tokens` `(F, T, n)`, `own` `(F, P)` and `visible` `(F, T, C)`."""

    def wrong(self, model: UnifiedModel, found: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
        """Returns the error `(B,)` of predicted tokens.

        Args:
            model: The model.
            found: Predicted tokens, `(B, T, n)`.
            truth: True tokens before and after the step, `(B, 2, T, n)`.
            visible: Whether the tokens are visible after the step, `(B, T, C)`.
        """

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """Returns the frames from which something moves within `ahead` steps; more windows start at them.

        Empty if all frames are equally likely to start a window.
        """


class SlotFrames:
    """Slots; gaps in which a slot is hidden are interpolated."""

    def read(self, model: UnifiedModel, data: EpisodeDataset) -> Recorded:
        """See `Frames`."""
        found = encoded(model.base, data)
        seen = {TOKENS: found.observation["slots"], "own": model.base.own_of(found.observation)}
        return replace(found, observation=seen | {"visible": found.observation["visible"]})

    def wrong(self, model: UnifiedModel, found: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
        """See `Frames`: in pixels; moved slots have a larger weight."""
        return slot_error(model.base, found[None], truth[None], visible[None])[0]

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """See `Frames`."""
        return before_moves(
            model.base, replace(data, observation=data.observation | {"slots": data.observation[TOKENS]}), ahead
        )

    @staticmethod
    def visible(tokens: Tensor) -> Tensor:
        """Returns which tokens `(..., T, n)` have been seen by each camera, `(..., T, C)`."""
        return tokens.unflatten(-1, (-1, FEATURES))[..., SEEN] > 0


class CodeFrames:
    """Codes, which are always visible."""

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
        """See `Frames`: in units of the standard deviation of recorded changes."""
        apart = (found - truth[:, 1]) / model.base.change_scale
        return F.smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.1, reduction="none").mean((-1, -2))

    def eventful(self, model: UnifiedModel, data: Recorded, ahead: int) -> Tensor:
        """See `Frames`."""
        return torch.zeros(0, dtype=torch.int64)

    @staticmethod
    def visible(tokens: Tensor) -> Tensor:
        """Returns True for all tokens `(..., T, n)`, `(..., T, 1)`."""
        return torch.ones(*tokens.shape[:-1], 1, dtype=torch.bool)


KINDS: dict[str, SlotFrames | CodeFrames] = {"slots": SlotFrames(), "dynamics": CodeFrames()}


def tokens_of(model: UnifiedModel, base: Any, data: EpisodeDataset, cache: Path | None) -> Recorded:
    """Encodes episodes as tokens, see `Frames.read`, or loads them from the cache."""

    def make() -> dict[str, Tensor]:
        recorded = KINDS[model.config.base].read(model, data)
        return {name: part.contiguous() for name, part in recorded.observation.items()}

    seen = _cached(cache, "tokens", base, data, make)
    terminated = torch.zeros(int(data.offsets[-1]))
    terminated[torch.from_numpy(data.offsets[1:] - 2)] = torch.from_numpy(data.terminated).float()
    reward = None if data.reward is None else torch.from_numpy(data.reward)
    first, last = (torch.from_numpy(part) for part in (data.offsets[:-1], data.offsets[1:] - 1))
    return Recorded(seen, torch.from_numpy(data.action), reward, terminated, first, last)


def observations(model: UnifiedModel, base: Any, data: EpisodeDataset, cache: Path | None) -> EncodedFrames:
    """Encodes episodes as policies observe them: each frame uses earlier frames only. Loads them from the cache if set.

    Unlike `tokens_of`, hidden slots are not interpolated with later frames.
    """
    found: list[EncodedFrames] = []

    def make() -> dict[str, Tensor]:
        frames = encode(Shown(base, model), data)
        found.append(frames)
        vectors = {f"vectors.{name}": part for name, part in frames.vectors.items()}
        names = ("embedding", "target", "episode", "last", "goal", "instruction", "words")
        own = {name: getattr(frames, name) for name in names if getattr(frames, name) is not None}
        own["bound"] = torch.tensor(frames.bound)
        return {name: part.contiguous() for name, part in (vectors | own).items()}

    parts = _cached(cache, "observed", base, data, make)
    if found:
        return found[0]
    vectors = {name.removeprefix("vectors."): parts[name] for name in parts if name.startswith("vectors.")}
    own: dict[str, Any] = {name: part for name, part in parts.items() if not name.startswith("vectors.")}
    return EncodedFrames(**({"goal": None} | own | {"vectors": vectors, "bound": bool(parts["bound"])}))


def _cached(
    folder: Path | None, name: str, base: torch.nn.Module, data: EpisodeDataset, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Returns `make()`, or its result from an earlier call with the same base weights, actions and seeds."""
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

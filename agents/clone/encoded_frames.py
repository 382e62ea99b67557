"""Recorded episodes as a policy sees them: every frame through a world model once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.data.episodes import EpisodeDataset
from dream_env.language import INSTRUCTION_DIM, WORDS, embedder, word_rows
from dream_env.observations import EMBEDDING_BOUND
from dream_env.progress import progress_bar
from dream_env.world_models.protocol import State, WorldModel

TOGETHER = 64
"""Episodes that are encoded side by side."""


@dataclass
class EncodedFrames:
    """F frames of N episodes, one after another.

    Attributes:
        embedding: `(F, E)` float16, as it is large.
        vectors: What the world model shows as it is, name to `(F, n)`.
        target: What is imitated in each frame, `(F, A)`; means nothing in last ones.
        episode: Episode of each frame, `(F,)`.
        last: Last frame of every episode, `(N,)`.
        goal: Embeddings of goals, `(N, E)` float16, of last frames where none were recorded; None without.
        instruction: Embeddings of sentences, `(N, 64)`.
        words: Their words, `(N, 16)`.
        bound: Whether embeddings are of the sentence too: the same picture has others under others.
    """

    embedding: Tensor
    vectors: dict[str, Tensor]
    target: Tensor
    episode: Tensor
    last: Tensor
    goal: Tensor | None
    instruction: Tensor
    words: Tensor
    bound: bool = False

    def __post_init__(self) -> None:
        """Finds the frames in which something was done."""
        acted = torch.ones(len(self.target), dtype=torch.bool)
        acted[self.last] = False
        self.acted = acted.nonzero()[:, 0]

    def observed(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns observations of frames `(B,)`, as a policy gets them in either world."""
        own = self.episode[rows]
        obs = {"embedding": self.embedding[rows].float(), **{k: part[rows] for k, part in self.vectors.items()}}
        if self.goal is not None:
            obs["goal"] = self.goal[own].float()
        return obs | {"instruction": self.instruction[own], "words": self.words[own]}

    def hindsight(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns observations of frames `(B,)` whose goals are later frames, without a sentence unless it is bound."""
        ahead = self.last[self.episode[rows]] - rows
        steps = 1 + (torch.rand(len(rows), generator=generator) * ahead).long()
        obs = self.observed(rows) | {"goal": self.embedding[rows + steps].float()}
        return obs if self.bound else obs | {name: torch.zeros_like(obs[name]) for name in ("instruction", "words")}

    def take(self, episodes: np.ndarray) -> EncodedFrames:
        """Returns some episodes, `(n,)` indices."""
        first = torch.cat([torch.zeros(1, dtype=torch.long), self.last[:-1] + 1])
        own = torch.from_numpy(np.asarray(episodes, np.int64))
        frames = torch.cat([torch.arange(int(first[i]), int(self.last[i]) + 1) for i in own])
        lengths = self.last[own] + 1 - first[own]
        return EncodedFrames(
            embedding=self.embedding[frames],
            vectors={name: part[frames] for name, part in self.vectors.items()},
            target=self.target[frames],
            episode=torch.arange(len(own)).repeat_interleave(lengths),
            last=lengths.cumsum(0) - 1,
            goal=None if self.goal is None else self.goal[own],
            instruction=self.instruction[own],
            words=self.words[own],
            bound=self.bound,
        )

    def later(self, rows: Tensor, steps: int) -> Tensor:
        """Returns the embeddings so many steps after frames `(B,)`, or at the end of their episodes, `(B, E)`."""
        return self.embedding[torch.minimum(rows + steps, self.last[self.episode[rows]])].float()

    def chunks(self, rows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Returns what was done in frames `(B,)` and after them, `(B, steps, A)`, and which of it there was."""
        reach, end = rows[:, None] + torch.arange(steps), self.last[self.episode[rows]][:, None]
        return self.target[torch.minimum(reach, end)], reach < end


def check_world(model: WorldModel, data: EpisodeDataset) -> None:
    """Raises ValueError for data of another world than the world model's."""
    given, accepted = data.spec.forms, model.spec.forms
    if wrong := [name for name in accepted if given.get(name) != accepted[name]]:
        raise ValueError(
            f"data of {data.spec.name} have {wrong[0]} {given.get(wrong[0])}; accepted by this world model of "
            f"{model.spec.name}: {accepted[wrong[0]]}"
        )


def encode(model: WorldModel, data: EpisodeDataset, imitates: str = "action") -> EncodedFrames:
    """Encodes episodes, each frame with what came before it where the world model has a memory.

    Args:
        model: Of any kind.
        data: Recorded episodes of its world.
        imitates: "action", or the label that is imitated.

    Raises:
        ValueError: If the data are of another world, or have no such label.
    """
    check_world(model, data)
    target = data.action
    if imitates != "action":
        if imitates not in data.labels or data.labels[imitates].shape != data.action.shape:
            fit = [name for name, label in data.labels.items() if label.shape == data.action.shape]
            raise ValueError(f"imitates={imitates!r}; accepted: 'action', or a label of its length: {fit}")
        target = data.labels[imitates]
    words = embedder(model)
    told = model.spec.instructions
    sentences = [words(str(one)) if told else np.zeros(INSTRUCTION_DIM, np.float32) for one in data.instruction]
    rows = [word_rows(str(one)) if told else np.zeros(WORDS, np.float32) for one in data.instruction]
    instruction = torch.from_numpy(np.stack(sentences))
    count = int(data.offsets[-1])
    embedding = torch.zeros(count, model.embedding_dim, dtype=torch.float16)
    known: Any = {**model.spec.observation.spaces, **getattr(model, "observed_spaces", {})}
    vectors = {name: torch.zeros(count, *known[name].shape) for name in model.observed}
    with torch.inference_mode(), progress_bar(desc="encode", total=len(data), unit="episode", leave=False) as bar:
        for i in range(0, len(data), TOGETHER):
            own = np.arange(i, min(i + TOGETHER, len(data)))
            for frames, state in _states(model, data, own, instruction if told else None):
                embedding[frames] = _shown(model, state)
                for name in model.observed:
                    vectors[name][frames] = state[name].float().cpu()
            bar.update(len(own))
        goal = None
        if model.spec.goals and data.goal:
            goal = torch.cat([_goals(model, data, slice(i, i + 256), instruction) for i in range(0, len(data), 256)])
        elif model.spec.goals:  # it takes where episodes end for their goals
            goal = embedding[torch.from_numpy(data.offsets[1:] - 1)]
    return EncodedFrames(
        embedding=embedding.clone(),
        vectors={name: part.clone() for name, part in vectors.items()},
        target=torch.from_numpy(np.array(target, np.float32)),
        episode=torch.from_numpy(np.repeat(np.arange(len(data)), np.diff(data.offsets))),
        last=torch.from_numpy(data.offsets[1:] - 1),
        goal=None if goal is None else goal.clone(),
        instruction=instruction,
        words=torch.from_numpy(np.stack(rows)),
        bound=_bound(model, data),
    )


@torch.inference_mode()
def _bound(model: Any, data: EpisodeDataset) -> bool:
    """Tells whether a frame's embedding depends on the sentence."""
    if not model.spec.instructions:
        return False
    seen = {name: np.repeat(np.array(part[:1]), 2, 0) for name, part in data.observation.items()}
    told = torch.eye(2, INSTRUCTION_DIM, device=model.device)
    one, other = model.embedding(model.encode({**_tensors(seen, model), "instruction": told}))
    return not torch.allclose(one, other, atol=1e-5)


def _states(model: Any, data: EpisodeDataset, own: np.ndarray, instruction: Tensor | None) -> Any:
    """Yields frames `(K,)` of some episodes and their states."""
    told = {} if instruction is None else {"instruction": instruction}
    if not getattr(model, "has_memory", False):
        frames = np.arange(data.offsets[own[0]], data.offsets[own[-1] + 1])
        episode = np.repeat(own, np.diff(data.offsets)[own])
        for some in np.array_split(np.arange(len(frames)), -(-len(frames) // 512)):
            seen = {k: part[frames[some]] for k, part in data.observation.items()}
            words = {k: part[episode[some]].to(model.device) for k, part in told.items()}
            yield torch.from_numpy(frames[some]), model.encode({**_tensors(seen, model), **words})
        return
    lengths, expected = data.lengths[own], None
    for step in range(int(lengths.max()) + 1):
        frames = data.offsets[own] + np.minimum(step, lengths)  # ended episodes stay where they are
        seen = {k: part[frames] for k, part in data.observation.items()}
        words = {k: part[own].to(model.device) for k, part in told.items()}
        state: State = model.encode({**_tensors(seen, model), **words}, expected)
        going = step <= lengths
        yield torch.from_numpy(frames[going]), {k: part[torch.from_numpy(going)] for k, part in state.items()}
        expected = model.step(state, torch.from_numpy(np.array(data.action[frames])).to(model.device))[0]


def _goals(model: Any, data: EpisodeDataset, rows: slice, instruction: Tensor) -> Tensor:
    """Returns the embeddings of some episodes' goals."""
    words = {"instruction": instruction[rows].to(model.device)} if model.spec.instructions else {}
    return _shown(model, model.encode({**_tensors({k: v[rows] for k, v in data.goal.items()}, model), **words}))


def _shown(model: WorldModel, state: State) -> Tensor:
    """Returns embeddings as observations have them."""
    return model.embedding(state).clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND).cpu().half()


def _tensors(parts: dict[str, Any], model: WorldModel) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(part)).to(model.device) for name, part in parts.items()}

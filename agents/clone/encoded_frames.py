"""Recorded episodes as observations of a policy: every frame is encoded once by a world model."""

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
"""Number of episodes that are encoded in one batch."""


@dataclass
class EncodedFrames:
    """F frames of N episodes, concatenated.

    Attributes:
        embedding: `(F, E)`, float16 to save memory.
        vectors: Vectors of the observation that the world model passes on unchanged, name to `(F, n)`.
        target: Actions to imitate, `(F, A)`; undefined in the last frame of an episode.
        episode: Index of each frame's episode, `(F,)`.
        last: Index of the last frame of each episode, `(N,)`.
        goal: Goal embeddings, `(N, E)` float16; the last frame of an episode if no goal was recorded, None if the world
            has no goals.
        instruction: Sentence embeddings, `(N, 64)`.
        words: Words of the sentences as rows of the word table, `(N, 16)`, see `dream_env.language.word_rows`.
        bound: Whether embeddings depend on the instruction, so that the same picture has another embedding under
            another instruction.
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
        """Finds the frames with an action: all but the last of each episode."""
        acted = torch.ones(len(self.target), dtype=torch.bool)
        acted[self.last] = False
        self.acted = acted.nonzero()[:, 0]

    def observed(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns the observations at frames `(B,)`, as a policy gets them in the dream and the real environment."""
        own = self.episode[rows]
        obs = {"embedding": self.embedding[rows].float(), **{k: part[rows] for k, part in self.vectors.items()}}
        if self.goal is not None:
            obs["goal"] = self.goal[own].float()
        return obs | {"instruction": self.instruction[own], "words": self.words[own]}

    def hindsight(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns observations at frames `(B,)` with random later frames of the episode as goals.

        The instruction is set to zeros, because it may not fit the goal, unless embeddings depend on it.
        """
        ahead = self.last[self.episode[rows]] - rows
        steps = 1 + (torch.rand(len(rows), generator=generator) * ahead).long()
        obs = self.observed(rows) | {"goal": self.embedding[rows + steps].float()}
        return obs if self.bound else obs | {name: torch.zeros_like(obs[name]) for name in ("instruction", "words")}

    def take(self, episodes: np.ndarray) -> EncodedFrames:
        """Returns the episodes with the given indices `(n,)`."""
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
        """Returns the embeddings `(B, E)` `steps` after frames `(B,)`, at most at the end of their episodes."""
        return self.embedding[torch.minimum(rows + steps, self.last[self.episode[rows]])].float()

    def chunks(self, rows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Returns action chunks `(B, steps, A)` from frames `(B,)` on, and a mask `(B, steps)` of steps that exist."""
        reach, end = rows[:, None] + torch.arange(steps), self.last[self.episode[rows]][:, None]
        return self.target[torch.minimum(reach, end)], reach < end


def check_world(model: WorldModel, data: EpisodeDataset) -> None:
    """Raises ValueError if observations or actions of the data have other shapes than those of the world model."""
    given, accepted = data.spec.shapes, model.spec.shapes
    if wrong := [name for name in accepted if given.get(name) != accepted[name]]:
        raise ValueError(
            f"data of {data.spec.name} have {wrong[0]} {given.get(wrong[0])}; accepted by this world model of "
            f"{model.spec.name}: {accepted[wrong[0]]}"
        )


def encode(model: WorldModel, data: EpisodeDataset, imitates: str = "action") -> EncodedFrames:
    """Encodes episodes; for a world model with memory, each frame with the frames before it.

    Args:
        model: World model of any kind.
        data: Recorded episodes of its environment.
        imitates: "action", or the name of the label to imitate.

    Raises:
        ValueError: If the data do not fit the world model, or have no such label.
    """
    check_world(model, data)
    target = data.action
    if imitates != "action":
        if imitates not in data.labels or data.labels[imitates].shape != data.action.shape:
            fit = [name for name, label in data.labels.items() if label.shape == data.action.shape]
            raise ValueError(f"imitates={imitates!r}; accepted: 'action', or a label of its length: {fit}")
        target = data.labels[imitates]
    words = embedder(model)
    instructed = model.spec.instructions
    sentences = [words(str(text)) if instructed else np.zeros(INSTRUCTION_DIM, np.float32) for text in data.instruction]
    rows = [word_rows(str(text)) if instructed else np.zeros(WORDS, np.float32) for text in data.instruction]
    instruction = torch.from_numpy(np.stack(sentences))
    count = int(data.offsets[-1])
    embedding = torch.zeros(count, model.embedding_dim, dtype=torch.float16)
    known: Any = {**model.spec.observation.spaces, **getattr(model, "observed_spaces", {})}
    vectors = {name: torch.zeros(count, *known[name].shape) for name in model.observed}
    with torch.inference_mode(), progress_bar(desc="encode", total=len(data), unit="episode", leave=False) as bar:
        for i in range(0, len(data), TOGETHER):
            own = np.arange(i, min(i + TOGETHER, len(data)))
            for frames, state in _states(model, data, own, instruction if instructed else None):
                embedding[frames] = _shown(model, state)
                for name in model.observed:
                    vectors[name][frames] = state[name].float().cpu()
            bar.update(len(own))
        goal = None
        if model.spec.goals and data.goal:
            goal = torch.cat([_goals(model, data, slice(i, i + 256), instruction) for i in range(0, len(data), 256)])
        elif model.spec.goals:  # without recorded goals, the end of an episode is its goal
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
    """Returns whether a frame's embedding depends on the instruction, from one frame and two made-up instructions."""
    if not model.spec.instructions:
        return False
    seen = {name: np.repeat(np.array(part[:1]), 2, 0) for name, part in data.observation.items()}
    instructions = torch.eye(2, INSTRUCTION_DIM, device=model.device)
    one, other = model.embedding(model.encode({**_tensors(seen, model), "instruction": instructions}))
    return not torch.allclose(one, other, atol=1e-5)


def _states(model: Any, data: EpisodeDataset, own: np.ndarray, instruction: Tensor | None) -> Any:
    """Yields indices of frames `(K,)` and their latent states, until all frames of the episodes `own` are encoded."""
    given = {} if instruction is None else {"instruction": instruction}
    if not getattr(model, "has_memory", False):
        frames = np.arange(data.offsets[own[0]], data.offsets[own[-1] + 1])
        episode = np.repeat(own, np.diff(data.offsets)[own])
        for batch in np.array_split(np.arange(len(frames)), -(-len(frames) // 512)):
            seen = {k: part[frames[batch]] for k, part in data.observation.items()}
            words = {k: part[episode[batch]].to(model.device) for k, part in given.items()}
            yield torch.from_numpy(frames[batch]), model.encode({**_tensors(seen, model), **words})
        return
    lengths, expected = data.lengths[own], None
    for step in range(int(lengths.max()) + 1):
        frames = data.offsets[own] + np.minimum(step, lengths)  # episodes that have ended repeat their last frame
        seen = {k: part[frames] for k, part in data.observation.items()}
        words = {k: part[own].to(model.device) for k, part in given.items()}
        state: State = model.encode({**_tensors(seen, model), **words}, expected)
        going = step <= lengths
        yield torch.from_numpy(frames[going]), {k: part[torch.from_numpy(going)] for k, part in state.items()}
        expected = model.step(state, torch.from_numpy(np.array(data.action[frames])).to(model.device))[0]


def _goals(model: Any, data: EpisodeDataset, rows: slice, instruction: Tensor) -> Tensor:
    """Returns the embeddings of the goals of episodes `rows`."""
    words = {"instruction": instruction[rows].to(model.device)} if model.spec.instructions else {}
    return _shown(model, model.encode({**_tensors({k: v[rows] for k, v in data.goal.items()}, model), **words}))


def _shown(model: WorldModel, state: State) -> Tensor:
    """Returns embeddings as in observations: clipped to `EMBEDDING_BOUND`, on the CPU, in float16."""
    return model.embedding(state).clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND).cpu().half()


def _tensors(parts: dict[str, Any], model: WorldModel) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(part)).to(model.device) for name, part in parts.items()}

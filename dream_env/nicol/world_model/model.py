"""The default world model: a token map learned by an auto-encoder, moved by a convolutional predictor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.checks import check_choice
from dream_env.language import INSTRUCTION_DIM, embed
from dream_env.nicol.constants import IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.world_model.config import Proprio, StateGroundedConfig
from dream_env.nicol.world_model.metric import MetricHead
from dream_env.nicol.world_model.object_dynamics import Mixture
from dream_env.nicol.world_model.predictor import Predictor, draw
from dream_env.nicol.world_model.state_estimator import CUBE, HAND, READINGS, StateEstimator, TargetSelector
from dream_env.spec import WorldSpec
from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.batching import MAPS, by_rows, in_company
from dream_env.world_models.legacy import accept_latent_state
from dream_env.world_models.memory import keep_freed_memory
from dream_env.world_models.pretrained import PretrainedAutoEncoder, SentenceProjection
from dream_env.world_models.protocol import Prediction, State
from dream_env.world_models.readout import LanguageReadout
from dream_env.world_models.traced import Traced

_PURE = ("_expect", "_draw", "_measure", "_success", "_variance")
"""Methods that map tensors to tensors, row by row."""
_ADD_METRIC = (
    "python -m agents.fit --data EPISODES --init CHECKPOINT --out FOLDER --autoencoder-updates 0 --predictor-updates 0 "
    "--success-updates 0"
)


class SuccessHead(nn.Module):
    """Logit of the task's condition, from what the instruction names in the tokens.

    What can be seen of it there says whether a cube is held; where it is, to the millimetre, a reader knows better.

    Args:
        channels: Channels of one token.
        grid: Side of the token map.
        width: Hidden width.
        reads: Whether it is told what a `StateEstimator` reads.
    """

    def __init__(self, channels: int, grid: int, width: int, reads: bool) -> None:
        super().__init__()
        # One vector has no places to choose from: all of it is brought back.
        queries, values = (8, 4) if grid > 1 else (1, channels)
        self.readout = LanguageReadout(channels, INSTRUCTION_DIM, grid, queries, values, width=32)
        inputs = self.readout.output_dim + len(PROPRIO_NAMES) + INSTRUCTION_DIM
        self.named = TargetSelector() if reads else None
        inputs += len(HAND) + len(CUBE) if reads else 0
        self.logit = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, tokens: Tensor, proprio: Tensor, instruction: Tensor, readings: Tensor | None = None) -> Tensor:
        """Gives logits `(B,)` for tokens `(B, T, C)`, and their readings `(B, R)` if it reads, before temperature."""
        parts = [self.readout(tokens, instruction), proprio, instruction]
        if self.named is not None and readings is not None:
            parts += [readings[..., : len(HAND)], self.named(readings, instruction)]
        return in_company(self.logit, torch.cat(parts, dim=1)).squeeze(-1)


@accept_latent_state  # until the engine gives states of the protocol
class StateGroundedModel(nn.Module):
    """A world model in latent space, see `dream_env.world_models.protocol.WorldModel` for its methods.

    Row i of every result is bit for bit the same whatever stands in the other rows and however many there are (on the
    CPU). Gradients pass through every method except `decode`; callers who need none use `torch.inference_mode`.

    Args:
        config: Architecture.
        spec: The world that it is fitted to.

    Raises:
        ValueError: If a number of it does not fit the others.
    """

    kind = "state_grounded"
    config_class = StateGroundedConfig
    noise_dim = 1
    observed = ("proprio",)

    def __init__(self, config: StateGroundedConfig | None = None, spec: WorldSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        keep_freed_memory()
        self.config = config = config or StateGroundedConfig()
        check_choice("proprio", config.proprio, Proprio)
        grid = config.grid
        self.embedding_dim = grid * grid * config.channels
        sizes = (config.channels, config.autoencoder_widths, IMAGE_SIZE, grid)
        self.autoencoder = PretrainedAutoEncoder(config.vision, *sizes) if config.vision else AutoEncoder(*sizes)
        self.words = SentenceProjection(config.text) if config.text else None
        self.predictor = Predictor(
            config.channels,
            grid,
            config.width,
            config.blocks,
            config.ensemble,
            config.head_width,
            config.sketch,
            config.interaction if config.metric_dim else 0,
            config.proprio == "learned",
            config.futures,
        )
        reads = config.success_reads and config.metric_dim > 0
        self.success_head = SuccessHead(config.channels, grid, config.success_width, reads)
        self.reader = StateEstimator(config.channels, grid) if config.metric_dim else None
        self.metric_head: MetricHead | None = None
        if config.metric_dim:
            self.metric_head = MetricHead(len(READINGS), config.metric_dim, config.metric_widths)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.autoencoder.background.device

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations into a state; all of it is seen in them, so `previous` does not count.

        Args:
            observation: "pixels" `(B, 64, 64, 3)` uint8; "proprio", set-points `(B, 4)` in [-1, 1], zeros without it;
                and "instruction", sentence embeddings `(B, 64)`, if there is one.
            previous: Not used.

        Returns:
            "tokens" `(B, T, C)`, "proprio", "object_state" `(B, R)` as it is read off the tokens, see
            `dream_env.nicol.world_model.state_estimator.READINGS`, and "instruction" if there is one.

        Raises:
            ValueError: If the pictures have another shape or type.
        """
        images, shape = observation["pixels"], (IMAGE_SIZE, IMAGE_SIZE, 3)
        if images.dtype != torch.uint8 or images.shape[1:] != shape:
            raise ValueError(f"pixels are {images.dtype} {tuple(images.shape)}; accepted: torch.uint8 (B, *{shape})")
        tokens = by_rows(partial(in_company, self.autoencoder.encode, company=MAPS), images)
        return self.state_of(tokens, observation.get("proprio"), observation.get("instruction"))

    def state_of(self, tokens: Tensor, proprio: Tensor | None = None, instruction: Tensor | None = None) -> State:
        """Makes a state of tokens `(B, T, C)`, off which the object state is read, and the rest of an observation."""
        if proprio is None:
            proprio = tokens.new_zeros(len(tokens), len(PROPRIO_NAMES))
        state = {"tokens": tokens, "proprio": proprio}
        if self.reader is not None:
            state["object_state"] = by_rows(self.reader, tokens)
        return state if instruction is None else state | {"instruction": instruction}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state: the mean of what the ensemble holds for likeliest, or, by noise, one of its futures.

        A network drawn anew at every step is the trajectory sampling TS1 of PETS (Chua et al. 2018, section 5.1). What
        is drawn is where cubes go.

        Args:
            state: Current states.
            action: `(B, 4)` in [-1, 1].
            noise: Uniform random numbers `(B, 1)` in [0, 1); None gives the likeliest.
            temperature: How far noise can lead from the likeliest, see `Mixture.drawn`.

        Returns:
            The next states, and of the step its disagreement and, if the states have an instruction, its success.
        """
        before = self._inputs(state, action)
        if noise is None:
            after = by_rows(self._expect, *before)
        else:
            after = by_rows(self._draw, noise[:, 0], torch.full_like(noise[:, 0], temperature), *before)
        following = state | dict(zip(("tokens", "proprio", "object_state"), after, strict=False))
        if self.reader is not None and len(after) < 3:  # no object dynamics: it is read off the predicted tokens
            following["object_state"] = by_rows(self.reader, following["tokens"])
        return following, Prediction(
            success=self.success(following) if "instruction" in state else None,
            disagreement=by_rows(self._variance, *before),
        )

    def posterior_step(self, state: State, action: Tensor, next_object_state: Tensor, known: Tensor) -> State:
        """Predicts the next state by the futures that most probably are the ones that happened (teacher forcing).

        So a dream under recorded actions is of what was recorded, also where a cube by chance slipped or did not.

        Args:
            state: Of `B` rows.
            action: `(B, 4)`.
            next_object_state: What happened: the object state `(B, R)` of the frame after it.
            known: Which of its numbers exist, `(B, R)` bool.
        """
        if self.predictor.interaction is None:
            return self.step(state, action)[0]
        after = by_rows(self._retrace, *self._inputs(state, action), next_object_state, known)
        return state | dict(zip(("tokens", "proprio", "object_state"), after, strict=True))

    def _inputs(self, state: State, action: Tensor) -> tuple[Tensor, ...]:
        kept = () if self.predictor.interaction is None else (state["object_state"],)
        return state["tokens"], state["proprio"], action, *kept

    def _retrace(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *before, truth, known = inputs
        return self.predictor.expect(*before, choose=Mixture.retraced, told=(truth, known))

    def _expect(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.predictor.expect(*inputs)

    def _draw(self, noise: Tensor, temperature: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.predictor.interaction is not None:  # where cubes go is noise, and the picture is drawn of it
            return self.predictor.expect(*inputs, choose=Mixture.drawn, told=(noise, temperature))
        heads, *rest = self.predictor(*inputs)
        return torch.lerp(heads.mean(0), draw(heads, noise), temperature[:, None, None]), *rest

    def _variance(self, *inputs: Tensor) -> Tensor:
        return self.predictor.disagreement(*inputs)

    def instruction(self, sentence: str) -> np.ndarray:
        """Embeds an instruction, `(64,)` float32 in [-1, 1], see `dream_env.language.embedder`."""
        return self.words.embed(sentence) if self.words else embed(sentence)

    def embedding(self, state: State) -> Tensor:
        """Flattens the tokens to `(B, E)`."""
        return state["tokens"].flatten(1)

    def metric(self, state: State) -> Tensor:
        """Maps states to vectors `(B, M)` by their object state, see `MetricHead`.

        Raises:
            ValueError: If the model has no metric.
        """
        if self.metric_head is None:
            raise ValueError(
                "world_model has no learned metric (metric_dim=0 in its config.json), which the reward needs; "
                f"accepted: a reward of the raw distance, or a world model with a metric. To add one: {_ADD_METRIC}"
            )
        return by_rows(self._measure, state["object_state"])

    def _measure(self, object_state: Tensor) -> Tensor:
        assert self.metric_head is not None
        return in_company(self.metric_head, object_state)

    @torch.no_grad()
    def decode(self, state: State) -> dict[str, Tensor]:
        """Draws states: "pixels" `(B, 64, 64, 3)` uint8, and "proprio" as it is."""
        images = by_rows(partial(in_company, self.autoencoder.decode, company=MAPS), state["tokens"])
        return {"pixels": (images * 255).round().clamp(0, 255).to(torch.uint8), "proprio": state["proprio"]}

    def success(self, state: State) -> Tensor:
        """Predicts the calibrated probability `(B,)` that the condition of the states' instruction holds now.

        Raises:
            ValueError: If the states have no instruction.
        """
        if "instruction" not in state:
            raise ValueError(f"state has {sorted(state)}; accepted: one of an observation with 'instruction'")
        kept = () if self.reader is None else (state["object_state"],)
        return by_rows(self._success, state["tokens"], state["proprio"], state["instruction"], *kept)

    def _success(self, tokens: Tensor, proprio: Tensor, instruction: Tensor, kept: Tensor | None = None) -> Tensor:
        logits = self.success_head(tokens, proprio, instruction, kept) / self.success_head.temperature
        # A softmax over "no" and "yes" goes row by row; a sigmoid's last bits depend on the length of the vector.
        return torch.stack([torch.zeros_like(logits), logits], dim=1).softmax(1)[..., 1]

    def compiled(self) -> StateGroundedModel:
        """Returns a model with the same weights whose dreams run through `torch.compile`.

        The first step of each kind takes up to a minute and needs a C++ compiler (on a GPU Triton); torch keeps what
        it made. Results differ from those of the plain model in their last bits.
        """
        return self._with(torch.compile, _PURE)

    def traced(self) -> StateGroundedModel:
        """Returns a model with the same weights, which must stay as they are, that is faster on small batches.

        Results are the same bit for bit, see `Traced`.
        """
        return self._with(Traced, _PURE)

    def _with(self, how: Callable[[Any], Any], names: tuple[str, ...]) -> StateGroundedModel:
        """Returns a model with the same weights that calls some of its methods in another way."""
        model = copy.copy(self)
        for name in names:
            vars(model).pop(name, None)
            setattr(model, name, how(getattr(model, name)))
        return model

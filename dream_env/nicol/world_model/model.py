"""The default world model: a token map learned by an auto-encoder, moved by a convolutional predictor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.checks import check_choice, check_number
from dream_env.language import INSTRUCTION_DIM, embed
from dream_env.nicol.constants import IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.world_model.metric import MetricHead
from dream_env.nicol.world_model.object_dynamics import Mixture
from dream_env.nicol.world_model.predictor import Predictor, draw
from dream_env.nicol.world_model.state_estimator import CUBE, HAND, READINGS, StateEstimator, TargetSelector
from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.batching import MAPS, by_rows, in_company
from dream_env.world_models.legacy import LatentState
from dream_env.world_models.memory import keep_freed_memory
from dream_env.world_models.pretrained import PretrainedAutoEncoder, SentenceProjection
from dream_env.world_models.readout import LanguageReadout
from dream_env.world_models.traced import Traced

Proprio = Literal["integrated", "learned"]

PREDICTOR = ("width", "blocks", "ensemble", "head_width", "sketch", "interaction", "futures", "proprio")
"""Numbers of `StateGroundedConfig` that fix the predictor and nothing else."""
_PURE = ("_expect", "_draw", "_measure", "_success", "_judge", "_variance")
"""Methods that map tensors to tensors, row by row."""
_ADD_METRIC = (
    "python -m agents.fit --data EPISODES --init CHECKPOINT --out FOLDER --autoencoder-updates 0 --predictor-updates 0 "
    "--success-updates 0"
)


@dataclass(frozen=True)
class StateGroundedConfig:
    """Every number that fixes the architecture of a `StateGroundedModel`."""

    grid: int = 8
    """Side of the token map: 8, 4, 2, or 1, which makes the state one vector. With 2 or 1 rows are independent of each
    other up to rounding, else bit for bit."""
    channels: int = 16
    """Channels of one token."""
    autoencoder_widths: tuple[int, int, int] = (32, 64, 64)
    """Channels after each halving of the picture; the decoder mirrors them."""
    width: int = 32
    """Width of the predictor's trunk."""
    blocks: int = 2
    """Residual blocks of the predictor's trunk."""
    ensemble: int = 3
    """Heads of the predictor, and networks of its interaction: their mean is the step, their variance the
    disagreement."""
    head_width: int = 48
    """Hidden width of one head."""
    sketch: int = 192
    """Hidden width of the predictor's sketch of the arm; 0 for none."""
    interaction: int = 128
    """Hidden width of what tells the predictor where hand and cubes will be, from where the metric's reader saw them at
    first; 0 leaves it to the predictor."""
    futures: int = 2
    """What may come of a contact: futures of every cube that its networks tell apart, such as held and slipped."""
    proprio: Proprio = "integrated"
    """Whether the set-point moves by the controller's own rule, or as the predictor learned it."""
    success_width: int = 64
    """Hidden width of the success head."""
    success_reads: bool = True
    """Whether the success head is told what the metric's reader reads, if there is one."""
    success_threshold: float = 0.5
    """Probability from which on a dream counts its condition as met; `agents.fit` sets it on held-out episodes."""
    metric_dim: int = 64
    """Length of the learned metric's vectors; 0 has none, as models from before it."""
    metric_widths: tuple[int, ...] = (128, 128, 128)
    """Hidden widths of the learned metric."""
    disagreement_threshold: float | None = None
    """Disagreement above which a step leaves what the ensemble knows; `agents.fit` sets it on held-out episodes."""
    vision: str | None = None
    """Folder of a pretrained vision encoder that makes the tokens (V-JEPA 2, DINOv2, SigLIP, ...; needs the extra
    `vla`); None learns one."""
    text: str | None = None
    """Folder of a pretrained text encoder that embeds the instructions; None takes the package's word vectors."""

    def __post_init__(self) -> None:
        """Checks what building a model does not."""
        check_number("success_threshold", self.success_threshold, high=1)
        if self.disagreement_threshold is not None:
            check_number("disagreement_threshold", self.disagreement_threshold)


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


class StateGroundedModel(nn.Module):
    """A world model in latent space, see `dream_env.world_models.legacy.WorldModel` for its methods.

    Row i of every result is bit for bit the same whatever stands in the other rows and however many there are (on the
    CPU). Gradients pass through every method except `decode`; callers who need none use `torch.inference_mode`.

    Args:
        config: Architecture.

    Raises:
        ValueError: If a number of it does not fit the others.
    """

    kind = "state_grounded"
    config_class = StateGroundedConfig

    def __init__(self, config: StateGroundedConfig | None = None) -> None:
        super().__init__()
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

    def encode(self, images: Tensor, proprio: Tensor) -> LatentState:
        """Encodes pictures `(B, 64, 64, 3)` uint8 and set-points `(B, 4)` into a state.

        Raises:
            ValueError: If the pictures have another shape or type.
        """
        shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
        if images.dtype != torch.uint8 or images.shape[1:] != shape:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; accepted: torch.uint8 (B, *{shape})")
        return self.state(by_rows(partial(in_company, self.autoencoder.encode, company=MAPS), images), proprio)

    def state(self, tokens: Tensor, proprio: Tensor) -> LatentState:
        """Makes a state of tokens `(B, T, C)`, off which its situation is read if one is kept, and set-points."""
        return LatentState(tokens, proprio, *self._situation(tokens))

    def _situation(self, tokens: Tensor, kept: Tensor | None = None) -> tuple[Tensor, ...]:
        """Returns the situation `(B, R)` that is kept, else read off the tokens; nothing where none is kept."""
        if self.reader is None or self.predictor.interaction is None:
            return ()
        return (by_rows(self.reader, tokens) if kept is None else kept,)

    def step(
        self, state: LatentState, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> LatentState:
        """Predicts the next state: the mean of what the ensemble holds for likeliest, or, by noise, one of its futures.

        A network drawn anew at every step is the trajectory sampling TS1 of PETS (Chua et al. 2018, section 5.1). What
        is drawn is where cubes go; without an interaction it is a head.
        """
        tokens, proprio, kept = state
        situation = self._situation(tokens, kept)
        if noise is None:
            return LatentState(*by_rows(self._expect, tokens, proprio, action, *situation))
        heat = torch.full_like(noise, temperature)
        return LatentState(*by_rows(self._draw, noise, heat, tokens, proprio, action, *situation))

    def retrace(self, state: LatentState, action: Tensor, truth: Tensor, known: Tensor) -> LatentState:
        """Predicts the next state by the futures that are nearest to what happened.

        So a dream under recorded actions is of what was recorded, also where a cube by chance slipped or did not.

        Args:
            state: Of `B` rows.
            action: `(B, 4)`.
            truth: What happened, as readings `(B, R)` of the frame after it.
            known: Which of these exist, `(B, R)` bool.
        """
        tokens, proprio, kept = state
        if not (situation := self._situation(tokens, kept)):
            return self.step(state, action)
        return LatentState(*by_rows(self._retrace, tokens, proprio, action, *situation, truth, known))

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

    def instruction(self, sentence: str) -> np.ndarray:
        """Embeds an instruction, `(64,)` float32 in [-1, 1], see `dream_env.language.embedder`."""
        return self.words.embed(sentence) if self.words else embed(sentence)

    def embedding(self, state: LatentState) -> Tensor:
        """Flattens the tokens to `(B, E)`."""
        return state.tokens.flatten(1)

    def metric(self, embedding: Tensor) -> Tensor:
        """Maps embeddings `(B, E)` to vectors `(B, M)`, see `MetricHead`.

        Raises:
            ValueError: If the model has no metric.
        """
        self._check_metric()
        return by_rows(self._measure, embedding.unflatten(1, (-1, self.config.channels)))

    def _check_metric(self) -> None:
        if self.metric_head is None:
            raise ValueError(
                "world_model has no learned metric (metric_dim=0 in its config.json), which the reward needs; "
                f"accepted: a reward of the raw distance, or a world model with a metric. To add one: {_ADD_METRIC}"
            )

    def _measure(self, tokens: Tensor) -> Tensor:
        assert self.reader is not None and self.metric_head is not None
        return in_company(self.metric_head, self.reader(tokens))

    @torch.no_grad()
    def decode(self, state: LatentState) -> Tensor:
        """Draws the state as pictures `(B, 64, 64, 3)` uint8."""
        images = by_rows(partial(in_company, self.autoencoder.decode, company=MAPS), state.tokens)
        return (images * 255).round().clamp(0, 255).to(torch.uint8)

    def success(self, state: LatentState, goal: Tensor, instruction: Tensor) -> Tensor:
        """Predicts the calibrated probability `(B,)` that the task's condition holds now.

        Args:
            state: Current states; what they keep of the situation counts, else what is read off their tokens.
            goal: Not used: what the words say can be seen in the state itself.
            instruction: Sentence embeddings, `(B, 64)`.
        """
        kept = () if state.situation is None else (state.situation,)
        return by_rows(self._success, state.tokens, state.proprio, instruction, *kept)

    def _success(self, tokens: Tensor, proprio: Tensor, instruction: Tensor, kept: Tensor | None = None) -> Tensor:
        if kept is None and self.success_head.named and self.reader is not None:
            kept = self.reader(tokens)
        return self._probability(self.success_head(tokens, proprio, instruction, kept))

    def _probability(self, logits: Tensor) -> Tensor:
        logits = logits / self.success_head.temperature
        # A softmax over "no" and "yes" goes row by row; a sigmoid's last bits depend on the length of the vector.
        return torch.stack([torch.zeros_like(logits), logits], dim=1).softmax(1)[..., 1]

    def judge(self, state: LatentState, goal: Tensor, instruction: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the metric's vectors and `success` of states, of the situation that they keep.

        Of encoded states, and of those that keep none, the vectors are `metric`'s, bit for bit: it is read off the
        tokens, once for both.

        Raises:
            ValueError: If the model has no metric.
        """
        self._check_metric()
        kept = () if state.situation is None else (state.situation,)
        return by_rows(self._judge, state.tokens, state.proprio, instruction, *kept)

    def _judge(
        self, tokens: Tensor, proprio: Tensor, instruction: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        assert self.reader is not None and self.metric_head is not None
        readings = self.reader(tokens) if kept is None else kept
        logits = self.success_head(tokens, proprio, instruction, readings)
        return in_company(self.metric_head, readings), self._probability(logits)

    def disagreement(self, state: LatentState, action: Tensor) -> Tensor:
        """Mean variance `(B,)` within the ensemble about one step, see `Predictor.disagreement`; 0 for one of each."""
        tokens, proprio, kept = state
        return by_rows(self._variance, tokens, proprio, action, *self._situation(tokens, kept))

    def _variance(self, *inputs: Tensor) -> Tensor:
        return self.predictor.disagreement(*inputs)

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

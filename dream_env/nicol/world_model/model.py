"""The state-grounded world model: its state is a token map (appearance) and an object state (positions)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.language import embed
from dream_env.nicol import constants
from dream_env.nicol.constants import IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.world_model.config import StateGroundedConfig
from dream_env.nicol.world_model.metric import MetricHead
from dream_env.nicol.world_model.object_dynamics import HELD, PLACE, Mixture, ObjectDynamics
from dream_env.nicol.world_model.painter import Painter
from dream_env.nicol.world_model.predictor import Predictor
from dream_env.nicol.world_model.state_estimator import OBJECT_STATE, StateEstimator
from dream_env.nicol.world_model.success_head import SuccessHead
from dream_env.spec import WorldSpec
from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.batching import chunked
from dream_env.world_models.pretrained import PretrainedAutoEncoder, SentenceProjection
from dream_env.world_models.protocol import Prediction, State
from dream_env.world_models.traced import Traceable

GRID = 8
"""Side of the square token map."""
_STATE = ("tokens", "proprio", "object_state")


class StateGroundedModel(Traceable, nn.Module):
    """A world model of NICOL, see `dream_env.world_models.protocol.WorldModel`.

    A state has these entries:

    - "tokens" `(B, T, C)`: latent tokens of the autoencoder;
    - "proprio" `(B, 4)`: the controller's set-point;
    - "object_state" `(B, R)`: positions of hand and cubes, see `state_estimator.OBJECT_STATE`. It is estimated from
      the tokens of an observation, and then predicted by the object dynamics in every step;
    - "instruction" `(B, 64)`: only if the observation has one.

    Gradients flow through every method except `decode`; use `torch.inference_mode` if you do not need them.

    Args:
        config: Architecture; None for the defaults.
        spec: Specification of the world that the model is fitted to.

    Raises:
        ValueError: If the values of the config do not fit together.
    """

    PURE = ("_mode_step", "_sample_step", "_posterior_step", "_metric", "_success")
    kind = "state_grounded"
    config_class = StateGroundedConfig
    noise_dim = 1
    observed = ("proprio",)
    metric_state = ("proprio", "object_state")
    """Entries of a state that suffice to compute the learned distance to a goal, see `step`."""

    def __init__(self, config: StateGroundedConfig | None = None, spec: WorldSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        self.config = config = config or StateGroundedConfig()
        channels = config.channels
        self.embedding_dim = GRID * GRID * channels
        sizes = (channels, config.autoencoder_widths, IMAGE_SIZE, GRID)
        self.autoencoder = PretrainedAutoEncoder(config.vision, *sizes) if config.vision else AutoEncoder(*sizes)
        self.words = SentenceProjection(config.text) if config.text else None
        self.state_estimator = StateEstimator(channels, GRID)
        self.object_dynamics = ObjectDynamics(config.dynamics_width, config.ensemble, config.mixture_components)
        heads, inputs = (config.ensemble, config.head_width), (config.arm_renderer_width, config.cube_heatmaps)
        self.predictor = Predictor(channels, GRID, config.width, config.blocks, *heads, *inputs)
        self.painter = Painter(channels, GRID, IMAGE_SIZE, config.painter_width) if config.painter_width else None
        self.success_head = SuccessHead(channels, GRID, config.success_width)
        self.metric_head = MetricHead(len(OBJECT_STATE), config.metric_dim, config.metric_widths)
        self.setpoint_step: Tensor
        self.register_buffer("setpoint_step", torch.from_numpy(constants.STEP), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.setpoint_step.device

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations into states. The model has no memory, so `previous` is ignored.

        Args:
            observation: "pixels" `(B, 64, 64, 3)` uint8; optionally "proprio", set-points `(B, 4)` in [-1, 1] (default
                zeros), and "instruction", sentence embeddings `(B, 64)`.
            previous: Not used.

        Raises:
            ValueError: If the images have the wrong shape or dtype.
        """
        images, shape = observation["pixels"], (IMAGE_SIZE, IMAGE_SIZE, 3)
        if images.dtype != torch.uint8 or images.shape[1:] != shape:
            raise ValueError(f"pixels are {images.dtype} {tuple(images.shape)}; accepted: torch.uint8 (B, *{shape})")
        tokens = chunked(self.autoencoder.encode, images)
        return self.state_of(tokens, observation.get("proprio"), observation.get("instruction"))

    def state_of(self, tokens: Tensor, proprio: Tensor | None = None, instruction: Tensor | None = None) -> State:
        """Builds states from tokens `(B, T, C)` and the rest of an observation; estimates the object state."""
        if proprio is None:
            proprio = tokens.new_zeros(len(tokens), len(PROPRIO_NAMES))
        state = {"tokens": tokens, "proprio": proprio, "object_state": chunked(self.state_estimator, tokens)}
        return state if instruction is None else state | {"instruction": instruction}

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Rebuilds states from observations of policies: "embedding" `(B, E)`, and the rest as in `encode`."""
        tokens = observation["embedding"].unflatten(-1, (-1, self.config.channels))
        return self.state_of(tokens, observation.get("proprio"), observation.get("instruction"))

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next states.

        Without noise, the next object state is the mean of the ensemble members' most likely components. With noise,
        it is a sample from the mixture of one ensemble member, drawn in every step: this is the trajectory sampling TS1
        of PETS (Chua et al. 2018, section 5.1). Only the motion of the cubes is random.

        Args:
            state: Current states. States with only the entries of `metric_state` are predicted in the same way, ten
                times faster, since tokens do not affect the motion of hand and cubes. In that case success is not
                predicted, and the disagreement is that of the object dynamics only.
            action: Actions `(B, 4)` in [-1, 1].
            noise: Uniform random numbers `(B, 1)` in [0, 1); None predicts the most likely outcome.
            temperature: Divides the logits of the mixture, see `Mixture.sample`.

        Returns:
            The next states, and a prediction with the disagreement and, for states with an instruction, the success
            probability. The disagreement is the variance between the predictor's heads plus that between the object
            dynamics' networks, each in its own units, so that a decimeter counts as much as everything in the tokens.
        """
        chance = () if noise is None else (noise[:, 0], torch.full_like(noise[:, 0], temperature))
        if "tokens" not in state:
            inputs = state["proprio"], state["object_state"], action
            setpoint, objects, disagreement = chunked(self._object_step, *inputs, *chance)
            moved = {"proprio": setpoint, "object_state": objects}
            return state | moved, Prediction(disagreement=disagreement)
        step = self._mode_step if noise is None else self._sample_step
        return self._outputs(state, chunked(step, *chance, *self._inputs(state, action)))

    def posterior_step(self, state: State, action: Tensor, next_object_state: Tensor, known: Tensor) -> State:
        """Predicts the next states with the mixture components that best explain the recording (teacher forcing).

        A rollout with recorded actions then follows the recording even where the outcome was random, such as a cube
        that slipped or did not.

        Args:
            state: Current states.
            action: Actions `(B, 4)` in [-1, 1].
            next_object_state: The recorded object state after the step, `(B, R)`.
            known: Which of its entries are defined, `(B, R)` bool.
        """
        inputs = self._inputs(state, action)
        return self._outputs(state, chunked(self._posterior_step, next_object_state, known, *inputs))[0]

    def _inputs(self, state: State, action: Tensor) -> tuple[Tensor, ...]:
        words = (state["instruction"],) if "instruction" in state else ()
        return state["tokens"], state["proprio"], state["object_state"], action, *words

    def _outputs(self, state: State, outputs: tuple[Tensor, ...]) -> tuple[State, Prediction]:
        *after, disagreement = outputs[:4]
        success = outputs[4] if len(outputs) > 4 else None
        following = state | dict(zip(_STATE, after, strict=True))
        return following, Prediction(success=success, disagreement=disagreement)

    def _object_step(
        self, proprio: Tensor, object_state: Tensor, action: Tensor, *chance: Tensor
    ) -> tuple[Tensor, ...]:
        setpoint = self.next_setpoint(proprio, action)
        mixture = self.object_dynamics(object_state, proprio, setpoint)
        after = mixture.sample(*chance) if chance else mixture.mode().mean(0)
        return setpoint, after, mixture.disagreement()

    def _mode_step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        mixture = self._mixture(*inputs)
        return self._rendered(mixture, mixture.mode().mean(0), *inputs)

    def _sample_step(self, noise: Tensor, temperature: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        mixture = self._mixture(*inputs)
        return self._rendered(mixture, mixture.sample(noise, temperature), *inputs)

    def _posterior_step(self, truth: Tensor, known: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        mixture = self._mixture(*inputs)
        return self._rendered(mixture, mixture.posterior_mode(truth, known).mean(0), *inputs)

    def _mixture(self, tokens: Tensor, proprio: Tensor, object_state: Tensor, action: Tensor, *_: Tensor) -> Mixture:
        return self.object_dynamics(object_state, proprio, self.next_setpoint(proprio, action))

    def next_setpoint(self, proprio: Tensor, action: Tensor) -> Tensor:
        """Moves set-points `(B, 4)` by actions `(B, 4)`, in the same way as the controller."""
        return constants.integrate(proprio, action, self.setpoint_step)

    def _rendered(
        self,
        mixture: Mixture,
        next_object_state: Tensor,
        tokens: Tensor,
        proprio: Tensor,
        object_state: Tensor,
        action: Tensor,
        *instruction: Tensor,
    ) -> tuple[Tensor, ...]:
        """Predicts the next tokens.

        Returns:
            The next tokens, set-points and object states, the disagreement and, if an instruction is given, the success
            probability.
        """
        setpoint = self.next_setpoint(proprio, action)
        heads = self.predictor(tokens, action, proprio, setpoint, object_state, next_object_state)
        after = heads.mean(0), setpoint, next_object_state
        # `Tensor.var` would take as long as the rest of the step.
        disagreement = (heads - after[0]).square().mean((0, 2, 3)) + mixture.disagreement()
        success = [self.success_head.probability(after[0], setpoint, each, after[2]) for each in instruction]
        return *after, disagreement, *success

    def instruction(self, sentence: str) -> np.ndarray:
        """Embeds an instruction, `(64,)` float32 in [-1, 1], see `dream_env.language.embedder`."""
        return self.words.embed(sentence) if self.words else embed(sentence)

    def embedding(self, state: State) -> Tensor:
        """Flattens the tokens to `(B, E)`."""
        return state["tokens"].flatten(1)

    def features(self, state: State) -> dict[str, Tensor]:
        """Returns low-dimensional features of the hand and the target cube, as inputs of a small controller.

        Returns:
            "way" `(B, 3)`, the vector from the set-point to the cube, in decimeters; "lag" `(B, 3)`, the vector from
            the hand to the set-point, in decimeters; "set_point" `(B, 4)`, the same as "proprio"; and "grip" `(B, 2)`,
            the closing of the hand and whether it holds the cube, in the units of an object state.

        Raises:
            ValueError: If the states have no instruction.
        """
        if "instruction" not in state:
            raise ValueError(f"state has {sorted(state)}; accepted: one of an observation with 'instruction'")
        objects, set_point, dynamics = state["object_state"], state["proprio"], self.object_dynamics
        target = self.success_head.target_selector(objects, state["instruction"])
        place = set_point[:, PLACE] * dynamics.slope + dynamics.middle
        return {
            "way": target[:, PLACE] - place,
            "lag": place - objects[:, PLACE] - dynamics.above,
            "set_point": set_point,
            "grip": torch.stack([objects[:, HELD], target[:, HELD]], 1),
        }

    def metric(self, state: State) -> Tensor:
        """Maps the object states of states to vectors `(B, M)` of the learned metric, see `MetricHead`."""
        return chunked(self._metric, state["object_state"])

    def _metric(self, object_state: Tensor) -> Tensor:
        return self.metric_head(object_state)

    @torch.no_grad()
    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states to "pixels" `(B, 64, 64, 3)` uint8, and returns "proprio" unchanged."""
        if self.painter is None:
            images = chunked(self.autoencoder.decode, state["tokens"])
        else:
            images = chunked(self.painter, *(state[name] for name in _STATE)) + self.autoencoder.background
        return {"pixels": (images * 255).round().clamp(0, 255).to(torch.uint8), "proprio": state["proprio"]}

    def success(self, state: State) -> Tensor:
        """Predicts the calibrated probability `(B,)` that the condition of the instruction holds in each state.

        Raises:
            ValueError: If the states have no instruction.
        """
        if "instruction" not in state:
            raise ValueError(f"state has {sorted(state)}; accepted: one of an observation with 'instruction'")
        inputs = (state[name] for name in ("tokens", "proprio", "instruction", "object_state"))
        return chunked(self._success, *inputs)

    def _success(self, *inputs: Tensor) -> Tensor:
        return self.success_head.probability(*inputs)

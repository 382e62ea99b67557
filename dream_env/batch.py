"""A batch of dreams with a numpy interface, shared by the single and the vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded

from dream_env.checks import check_choice, shown
from dream_env.dream_config import DreamConfig
from dream_env.engine import Carry, DreamEngine
from dream_env.initial_states import InitialStates, draw
from dream_env.language import similarity
from dream_env.observations import to_numpy, to_tensors
from dream_env.world_models.precision import insulated

RENDER_SIZE = 256
"""`render()` enlarges decoded images by the largest whole factor that keeps their height within this many pixels."""


class NoPictures(ValueError, TypeError):
    """A render mode was asked for in a world without pictures.

    It is a `TypeError` as well because `make_vec_env` of Stable-Baselines3 asks for pictures unasked, and goes on
    without them only after a `TypeError`.
    """


class DreamBatch:
    """The B parallel dreams of a `DreamEnv` (B = 1) or `DreamVectorEnv`.

    Args:
        num_envs: Number of dreams B.
        config: Options of the dreams.
        horizon: As in `DreamEngine`.

    Raises:
        ValueError: If the world model does not support the options, such as a render mode without pictures.
    """

    OPTIONS: tuple[str, ...] = ("task", "start", "instruction", "observation", "goal")
    """Keys that `reset(options=...)` accepts."""

    @insulated
    def __init__(self, num_envs: int, config: DreamConfig, horizon: int | str | None) -> None:
        self.num_envs, self.config = num_envs, config
        self.engine = DreamEngine(config, horizon)
        if config.render_mode:
            self._check_pictures()
        self.set_task(config.task)
        self.instruction = np.empty(num_envs, object)
        self.task_name = np.empty(num_envs, object)
        self._carry: Carry | None = None
        self._embedding: torch.Tensor | None = None  # of the states in the carry, if the last step has computed it
        self._info: dict[str, np.ndarray] = {}

    @property
    def initial_states(self) -> InitialStates:
        """The recorded states from which dreams start."""
        return self.engine.initial_states

    @property
    def carry(self) -> Carry:
        """The current `Carry` of the engine: everything that is passed from step to step."""
        self.check_running()
        assert self._carry is not None
        return self._carry

    def check_running(self) -> None:
        """Raises ResetNeeded before the first reset and after `close`."""
        if self._carry is None:
            raise ResetNeeded("no episode before reset() and after close(); call reset() first")

    def close(self) -> None:
        """Ends the episodes."""
        self._carry = None

    def set_task(self, task: str) -> None:
        """Sets the task of future episodes: a task name from the initial states, or "all"."""
        self._chances = self.initial_states.chances(task, self.config.middle_share)
        self.task = task

    def set_temperature(self, temperature: float) -> None:
        """Sets the temperature of future steps."""
        self.config = self.engine.config = replace(self.config, temperature=temperature)

    # --- reset and step

    @insulated
    @torch.inference_mode()
    def restart(self, index: np.ndarray, chance: np.ndarray, options: dict[str, Any]) -> None:
        """Starts new episodes in some of the dreams.

        Args:
            index: Indices of the dreams to start, `(K,)`.
            chance: One random number in [0, 1) per started dream, `(K,)`; selects its initial state.
            options: The `options` of `reset`.

        Raises:
            ValueError: If an option is not accepted. The running episodes are not affected.
            ResetNeeded: If only some dreams are reset before all have been started once.
        """
        if self._carry is None and len(index) < self.num_envs:
            raise ResetNeeded("the first reset starts every dream; call reset() without a mask")
        sentences = self._sentences(options, len(index))
        rows = self._rows(options, sentences, chance)
        given = self._given(options)
        fresh = self.engine.begin(rows, sentences, **given)
        info = self._numpy(self.engine.info(fresh))
        if len(index) < self.num_envs:
            where = torch.from_numpy(index).to(self.engine.device)
            fresh = {name: part.index_copy(0, where, fresh[name]) for name, part in self.carry.items()}
            for name, part in self._info.items():
                part[index] = info[name]
        else:
            self._info = info
        self._carry, self._embedding = fresh, None
        self.instruction[index] = self.initial_states.instruction[rows] if sentences is None else sentences
        self.task_name[index] = self.initial_states.task[rows]

    def noise(self, generators: Sequence[np.random.Generator], going: np.ndarray | None = None) -> np.ndarray | None:
        """Draws uniform noise `(B, noise_dim)` for one step, each row from the generator of its dream.

        Args:
            generators: One generator per dream.
            going: Mask `(B,)` of the dreams that take a step; the other rows are 0 and draw nothing. None for all.

        Returns:
            The noise in [0, 1), float32; None at temperature 0 or for a model without noise.
        """
        dim = self.engine.model.noise_dim
        if not self.config.temperature or not dim:
            return None
        noise = np.zeros((self.num_envs, dim), np.float32)
        for i in range(self.num_envs) if going is None else np.flatnonzero(going).tolist():
            generators[i].random(out=noise[i], dtype=np.float32)
        return noise

    @insulated
    @torch.inference_mode()
    def step(self, actions: np.ndarray, noise: np.ndarray | None) -> dict[str, np.ndarray]:
        """Advances every dream by one control step.

        Args:
            actions: Actions `(B, ...)` within the action space.
            noise: Output of the method `noise`.

        Returns:
            Dict with `reward`, `terminated` and `truncated`, `(B,)` each.
        """
        device = self.engine.device
        drawn = None if noise is None else torch.from_numpy(noise).to(device)
        self._carry, result = self.engine.advance(self.carry, torch.from_numpy(actions).to(device), drawn)
        self._embedding = result.pop("embedding", None)
        info = self._numpy(result)
        ends = {name: info.pop(name) for name in ("reward", "terminated", "truncated")}
        self._info = info
        return ends

    # --- observations, infos, images

    @insulated
    @torch.inference_mode()
    def observation(self) -> Any:
        """Returns the observations of all dreams as new arrays with a leading batch axis."""
        return to_numpy(self.engine.observe(self.carry, self._embedding))

    @insulated
    def info(self) -> dict[str, np.ndarray]:
        """Returns the infos of all dreams as new arrays `(B,)`."""
        return {name: part.copy() for name, part in self._info.items()}

    @insulated
    @torch.inference_mode()
    def frames(self) -> np.ndarray:
        """Decodes all dreams to enlarged images `(B, H, W, 3)` uint8, with the cameras side by side.

        Raises:
            ValueError: If the environment was recorded without images.
        """
        self._check_pictures()
        decoded, names = self.engine.model.decode(self.engine.state(self.carry)), self.engine.spec.pictures
        shown = [decoded[name].cpu().numpy() for name in names]
        height = max(part.shape[1] for part in shown)  # pad smaller images with black below
        shown = [np.pad(part, ((0, 0), (0, height - part.shape[1]), (0, 0), (0, 0))) for part in shown]
        frames = np.concatenate(shown, axis=2)
        zoom = max(1, RENDER_SIZE // frames.shape[1])
        return frames.repeat(zoom, axis=1).repeat(zoom, axis=2)

    def _check_pictures(self) -> None:
        if not self.engine.spec.pictures:
            raise NoPictures(
                f"render_mode={self.config.render_mode!r}: {self.engine.spec.name} was recorded without pictures; "
                "accepted: None"
            )

    # --- save and restore

    @insulated
    def get_state(self) -> dict[str, np.ndarray]:
        """Returns copies of everything that determines how the dreams continue, except the random generators."""
        words = {"sentence": self.instruction.astype(str), "task_name": self.task_name.astype(str)}
        return {name: part.cpu().numpy().copy() for name, part in self.carry.items()} | words

    @insulated
    @torch.inference_mode()
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `get_state` returned.

        Raises:
            ValueError: If it does not match the world model or the number of dreams. Nothing is changed in that case.
        """
        arrays = self._checked(state)
        self.instruction = arrays.pop("sentence").astype(object)
        self.task_name = arrays.pop("task_name").astype(object)
        self._carry = {name: torch.from_numpy(array.copy()).to(self.engine.device) for name, array in arrays.items()}
        self._embedding = None
        self._info = self._numpy(self.engine.info(self._carry))

    def _checked(self, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns the arrays of a state, see `set_state`, which changes nothing."""
        expected, arrays = self._form(), {}
        if not isinstance(state, Mapping) or state.keys() != expected.keys():
            given = sorted(map(str, state)) if isinstance(state, Mapping) else shown(state)
            raise ValueError(f"state has {given}; accepted, as get_state gives it: {sorted(expected)}")
        for name, old in expected.items():
            array = np.asarray(state[name])
            kinds = {"f": "iuf", "i": "iu", "b": "b", "U": "U"}[old.dtype.kind]
            if array.shape != old.shape or array.dtype.kind not in kinds:
                raise ValueError(f"state[{name!r}] is {array.dtype} {array.shape}; accepted: {old.dtype} {old.shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"state[{name!r}] holds NaN or infinity; accepted: finite numbers")
            if name in ("_steps", "_streak") and (array < 0).any():
                raise ValueError(f"state[{name!r}] holds {array.min()}; accepted: counts of steps")
            arrays[name] = array if old.dtype.kind == "U" else array.astype(old.dtype)
        known = (*self.initial_states.tasks, "")
        if not np.isin(arrays["task_name"], known).all():
            raise ValueError(f"state['task_name'] holds {sorted(set(arrays['task_name'].tolist()))}; accepted: {known}")
        return arrays

    def _form(self) -> dict[str, np.ndarray]:
        """Returns a state, that of episodes begun for the purpose where there are none."""
        if self._carry is not None:
            return self.get_state()
        before = self.instruction.copy(), self.task_name.copy(), self._info
        self.restart(np.arange(self.num_envs), np.zeros(self.num_envs), {})
        state = self.get_state()
        self._carry = None
        self.instruction, self.task_name, self._info = before
        return state

    # --- reset options

    def _sentences(self, options: dict[str, Any], count: int) -> list[str] | None:
        if "instruction" not in options:
            return None
        given = options["instruction"]
        sentences = [given] * count if isinstance(given, str) else given
        several = isinstance(sentences, Sequence | np.ndarray) and len(sentences) == count
        if not self.engine.spec.instructions or not several or not all(isinstance(s, str) for s in sentences):
            raise ValueError(
                f"options['instruction']={shown(given)}; accepted: a sentence, or one for each of {count}, in a world "
                f"with sentences ({self.engine.spec.name} has {'' if self.engine.spec.instructions else 'not '}any)"
            )
        return [str(sentence) for sentence in sentences]

    def _rows(self, options: dict[str, Any], sentences: list[str] | None, chance: np.ndarray) -> np.ndarray:
        """Returns the rows of the initial states `(K,)` to start from: given by the options, or drawn."""
        task, states = options.get("task"), self.initial_states
        if task is not None:
            check_choice("options['task']", task, (*states.tasks, "all"))
        if "start" in options:
            start = np.asarray(options["start"])
            within = start.dtype.kind in "iu" and ((start >= 0) & (start < len(states))).all()
            if start.shape not in ((), chance.shape) or not within:
                raise ValueError(
                    f"options['start']={shown(options['start'])}; accepted: a row of the initial states, 0 to "
                    f"{len(states) - 1}, or one for each of the {len(chance)} dreams that start"
                )
            asked = self.task if task is None else task
            if asked != "all" and (others := set(states.task[np.atleast_1d(start)].tolist()) - {asked}):
                raise ValueError(f"options['start']={start} is of task {sorted(others)}; accepted: rows of {asked!r}")
            return np.full(len(chance), start)
        if sentences is not None and "observation" not in options:
            return np.array([self.fitting(s, task, c) for s, c in zip(sentences, chance, strict=True)], np.int64)
        chances = self._chances if task is None else states.chances(task, self.config.middle_share)
        return draw(chances, chance)

    def fitting(self, sentence: str, task: str | None, chance: float) -> int:
        """Draws an initial state whose recorded instruction is most similar to `sentence`, so that its goal fits."""
        known, inverse = np.unique(self.initial_states.instruction, return_inverse=True)
        likeness = similarity(sentence, tuple(known.tolist()), self.engine.model)
        among = (likeness >= likeness.max() - 1e-6)[inverse]
        chances = self.initial_states.chances(task or "all", self.config.middle_share, among)
        return draw(chances, chance)

    def _given(self, options: dict[str, Any]) -> dict[str, Any]:
        """Checks the observations in the options and returns them as batches of size 1."""
        spec = self.engine.spec
        given: dict[str, Any] = {}
        for key in ("observation", "goal"):
            if key not in options:
                continue
            parts, needed = options[key], spec.observation.spaces if key == "observation" else spec.pictures
            if not isinstance(parts, Mapping) or not set(needed) <= set(parts) <= set(spec.observation.spaces):
                raise ValueError(f"options[{key!r}]={shown(parts)}; accepted: a dict with {', '.join(needed)}")
            for name, part in parts.items():
                array, space = np.asarray(part), spec.observation[name]
                assert space.dtype is not None
                fits = array.shape == space.shape and np.can_cast(array.dtype, space.dtype, "same_kind")
                if not fits or not np.isfinite(array).all() or not space.contains(array.astype(space.dtype)):
                    raise ValueError(f"options[{key!r}][{name!r}] is {array.dtype} {array.shape}; accepted: {space}")
            given[key] = to_tensors(parts, self.engine.device)
        return given

    def _numpy(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        return {name: np.array(part.cpu().numpy()) for name, part in tensors.items()}

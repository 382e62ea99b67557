"""A batch of dreams without an API: what `NicoLDream-v0` does, for any number of rows, in a few tensor operations.

The single and the vector environment of `dream_env.dream` add randomness and Gymnasium's form to
it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from torch import Tensor

from dream_env import checks, contract, rewards
from dream_env.dream_config import DreamConfig
from dream_env.language import embedder
from dream_env.nicol import constants
from dream_env.nicol.language import color_of
from dream_env.nicol.tasks import task_of
from dream_env.nicol.world_model.metric import learned_metric
from dream_env.world_models.legacy import LatentState

OPTIONS = ("task", "start", "instruction", "image", "proprio", "goal_image")
"""Keys that `reset(options=...)` takes."""
DRAWS = 3
"""Random numbers that one reset takes from an environment's generator."""
ZOOM = 4
"""Factor by which `render()` enlarges the decoder's picture."""


class Dreams:
    """A batch of dreams. Rows never see each other: a batch of one is the same dream as a row of a thousand.

    Args:
        num_envs: Number of dreams B.
        config: What is dreamed.
        horizon: Step at which an episode ends; None for never.
    """

    def __init__(self, num_envs: int, config: DreamConfig, horizon: int | None = None) -> None:
        self.num_envs, self.config, self.horizon = num_envs, config, horizon
        self.model, self.bank = config.open()
        self.device = self.model.device
        settings = getattr(self.model, "config", None)
        self.threshold: float = getattr(settings, "success_threshold", 0.5)
        self.max_disagreement = config.limit(getattr(settings, "disagreement_threshold", None))
        self.metric = learned_metric(self.model) if rewards.is_learned(config.reward) else None
        self._index_starts()
        self.set_task(config.task)
        self.step_size = torch.from_numpy(constants.STEP).to(self.device)
        self.observation_space = contract.observation_space(self.model.embedding_dim, config.obs_type, config.goal_env)
        self.watches = config.disagreement_penalty > 0 or self.max_disagreement is not None
        self.state: LatentState | None = None
        self.goal = self.words = torch.empty(0)
        self.instruction = np.empty(num_envs, object)
        self.task_name = np.empty(num_envs, object)
        self.held = np.zeros(num_envs, np.int64)
        self.steps = np.zeros(num_envs, np.int64)
        self.ended = np.zeros(num_envs, bool)
        self.disagreement = np.zeros(num_envs, np.float32)
        self.distance, self.span, self.success_probability = np.zeros((3, num_envs), np.float32)
        if self.metric is not None:
            nothing = np.zeros((1, self.model.embedding_dim), np.float32)
            self._goal_vector = self.metric(nothing).repeat(num_envs, axis=0)

    def _index_starts(self) -> None:
        """Sorts the bank's rows by task and kind (start, mid-episode), so that drawing is arithmetic."""
        tasks, bank = self.bank.tasks, self.bank
        group = 2 * np.searchsorted(tasks, bank.task) + (bank.step > 0)
        self._order = np.argsort(group, kind="stable")
        self._count = np.bincount(group, minlength=2 * len(tasks))
        self._first = np.cumsum(self._count) - self._count

    def set_task(self, task: str) -> None:
        """Takes another task for the episodes to come, one that the bank has starts of, or "all"."""
        self._check_task("task", task)
        self.task = task

    def _check_task(self, name: str, task: str) -> None:
        """Raises ValueError unless the bank has the starts of a task that are asked for."""
        checks.check_choice(name, task, (*self.bank.tasks, "all"))
        tasks, share = self.bank.tasks, self.config.middle_share
        for each in tasks if task == "all" else (task,):
            starts, middles = self._count[2 * tasks.index(each) :][:2]
            if (share < 1 and not starts) or (share > 0 and not middles):
                raise ValueError(
                    f"starts={self.config.starts!r}: the bank holds {starts} episode starts and {middles} "
                    f"mid-episode states of task {each!r}; accepted: a share that it can serve"
                )

    def _draw(self, uniform: np.ndarray, task: str) -> np.ndarray:
        """Turns random numbers `(K, DRAWS)` in [0, 1) into rows of the bank `(K,)`."""
        group = self._group(uniform, task)
        return self._order[self._first[group] + (uniform[:, 2] * self._count[group]).astype(int)]

    def _draw_fitting(self, uniform: np.ndarray, sentences: np.ndarray, task: str | None) -> np.ndarray:
        """Draws rows `(K,)` whose goal pictures show what sentences `(K,)` ask for; `task` is the sentences' if None.

        Raises:
            ValueError: If a sentence names no color, or the bank has no such start.
        """
        rows = np.empty(len(sentences), int)
        for k, sentence in enumerate(sentences):
            own, color = task or task_of(sentence), color_of(sentence)
            self._check_task("task of the instruction", own)
            group = self._group(uniform[k], own)
            fitting = self._order[self._first[group] :][: self._count[group]]
            fitting = fitting[self.bank.color[fitting] == color]
            if not len(fitting):
                raise ValueError(
                    f"options['instruction']={sentence!r}: the bank has no start of {own!r} with that color"
                )
            rows[k] = fitting[int(uniform[k, 2] * len(fitting))]
        return rows

    def _group(self, uniform: np.ndarray, task: str) -> Any:
        """Chooses task and kind of start, as a group of `_index_starts`, by random numbers `(..., DRAWS)`."""
        tasks = self.bank.tasks
        which = (uniform[..., 0] * len(tasks)).astype(int) if task == "all" else tasks.index(task)
        return 2 * which + (uniform[..., 1] < self.config.middle_share)

    # --- reset and step

    @torch.inference_mode()
    def reset(self, index: np.ndarray, uniform: np.ndarray, options: dict[str, Any] | None = None) -> None:
        """Starts new episodes in rows `index` `(K,)` from random numbers `(K, DRAWS)` and the reset's options."""
        options = self._check_options(options or {}, len(index))
        if self.state is None and len(index) < self.num_envs:
            raise ResetNeeded("the first reset starts every dream; call reset() without a mask")
        model, device = self.model, self.device
        instruction: Any = options.get("instruction")
        if "start" in options:
            rows = np.full(len(index), options["start"])
        elif instruction is None or "image" in options:
            rows = self._draw(uniform, options.get("task", self.task))
        else:
            rows = self._draw_fitting(uniform, instruction, options.get("task"))
        start = self.bank.states(model, rows)
        goal, words = self.bank.goals(model, rows), self.bank.words(model, rows)
        if "image" in options:
            one = _tensors(device, options["image"], options["proprio"])
            start = model.encode(*one).take(np.zeros(len(index), int))
        if "goal_image" in options:
            one = _tensors(device, options["goal_image"], np.zeros(4, np.float32))
            goal = model.embedding(model.encode(*one)).expand_as(goal)
        if instruction is None:
            instruction = self.bank.instruction[rows]
        else:
            words = np.stack([embedder(model)(sentence) for sentence in instruction])

        new: tuple[Any, ...] = (*start, goal, torch.from_numpy(words.copy()).to(device))
        if len(index) < self.num_envs:
            assert self.state is not None
            where = torch.from_numpy(index).to(device)
            old = (*self.state, self.goal, self.words)
            new = tuple(a if a is None else a.index_copy(0, where, b) for a, b in zip(old, new, strict=True))
        *parts, self.goal, self.words = new
        self.state = LatentState(*parts)
        self.instruction[index], self.task_name[index] = instruction, self.bank.task[rows]
        for counter in (self.held, self.steps, self.ended, self.disagreement):
            counter[index] = 0
        self._look(index)

    @torch.inference_mode()
    def step(self, actions: np.ndarray, noise: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Moves every dream by one action.

        Args:
            actions: `(B, 4)` in [-1, 1].
            noise: Random numbers `(B,)` float32 in [0, 1), for a temperature above 0.

        Returns:
            Rewards `(B,)` float32 and whether the episode has ended `(B,)` bool.
        """
        if self.state is None:
            raise ResetNeeded("step() before reset(); call reset() first")
        config, previous = self.config, self.span.copy()
        action = torch.from_numpy(actions).to(self.device)
        action = constants.to_delta(config.control, self.state.proprio, action, self.step_size)
        if self.watches:
            self.disagreement = self.model.disagreement(self.state, action).cpu().numpy()
        chance = () if noise is None else (torch.from_numpy(noise).to(self.device), config.temperature)
        with config.computing(self.device):
            self.state = self.model.step(self.state, action, *chance)
        self.steps += 1
        self._look()
        self.held = np.where(self.success_probability >= self.threshold, self.held + 1, 0)
        reward = rewards.reward(config.reward, previous, self.span, self.is_success)
        if config.disagreement_penalty:
            reward = reward - np.float32(config.disagreement_penalty) * self.disagreement
        self.ended = np.zeros(self.num_envs, bool)
        if self.horizon is not None:
            self.ended |= self.steps >= self.horizon
        if self.max_disagreement is not None:
            self.ended |= self.disagreement > self.max_disagreement
        return reward, self.ended.copy()

    def _look(self, started: np.ndarray | None = None) -> None:
        """Takes embedding, distances and predicted success of the current state.

        `span` is the distance that the reward measures: the raw one, or that of the learned metric.

        Args:
            started: Rows `(K,)` with a new start and goal, the only ones to look at; None after a step looks at all.
        """
        assert self.state is not None
        rows: Any = slice(None) if started is None else started
        if started is not None:
            self._seen_goal, self._seen_words = self.goal.cpu().numpy(), self.words.cpu().numpy()
        self.embedding = self.model.embedding(self.state).cpu().numpy()
        embedding, goal = self.embedding[rows], self._seen_goal[rows]
        self.distance[rows] = self.span[rows] = rewards.distance(embedding, goal)
        judged = self.state, self.goal, self.words
        if started is not None:
            judged = self.state.take(rows), self.goal[rows], self.words[rows]
        # Hindsight has embeddings alone, and its rewards have to be those of the steps.
        vector: Tensor | None = None
        if self.metric is not None and not self.config.goal_env:
            vector, probability = self.model.judge(*judged)
        else:
            probability = self.model.success(*judged)
        if self.metric is not None:
            if started is not None:
                self._goal_vector[rows] = self.metric(goal)
            vectors = self.metric(embedding) if vector is None else vector.cpu().numpy()
            self.span[rows] = rewards.metric_distance(vectors, self._goal_vector[rows])
        self.success_probability[rows] = probability.cpu().numpy()

    # --- what can be seen

    @property
    def is_success(self) -> np.ndarray:
        """Whether the predicted condition has held for the last `HOLD_STEPS` steps, `(B,)` bool."""
        return self.held >= constants.HOLD_STEPS

    def observation(self, rows: Any = slice(None)) -> dict[str, np.ndarray]:
        """Returns the observations of all dreams, or of some `rows`, fresh arrays with a leading axis."""
        assert self.state is not None
        return contract.observation(
            embedding=self.embedding[rows],
            goal=self._seen_goal[rows],
            proprio=self.state.proprio[rows].cpu().numpy(),
            instruction=self._seen_words[rows],
            pixels=self.pixels(rows) if self.config.obs_type == "pixels" else None,
            goal_env=self.config.goal_env,
        )

    def info(self) -> dict[str, np.ndarray]:
        """Returns the infos of all dreams, fresh arrays `(B,)`."""
        info = {
            "is_success": self.is_success,
            "distance": self.distance.copy(),
            "success_probability": self.success_probability.copy(),
        }
        info |= {} if self.metric is None else {"metric_distance": self.span.copy()}
        return info | ({"disagreement": self.disagreement.copy()} if self.watches else {})

    @torch.inference_mode()
    def pixels(self, rows: Any = slice(None)) -> np.ndarray:
        """Decodes the states of all dreams, or of some `rows`, to pictures `(B, 64, 64, 3)` uint8."""
        if self.state is None:
            raise ResetNeeded("nothing to draw before reset(); call reset() first")
        return self.model.decode(self.state.take(rows)).cpu().numpy()

    def frames(self) -> np.ndarray | None:
        """Returns enlarged pictures `(B, 256, 256, 3)` uint8, or None without a render mode."""
        if self.config.render_mode is None:
            return None
        return self.pixels().repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)

    # --- save and restore

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns copies of everything that decides how the dreams go on, apart from later random draws."""
        if self.state is None:
            raise ResetNeeded("no state before reset(); call reset() first")
        tensors = {"goal": self.goal, "words": self.words, **self.state._asdict()}
        return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items() if tensor is not None} | {
            "instruction": self.instruction.astype(str),
            "task_name": self.task_name.astype(str),
            "held": self.held.copy(),
            "steps": self.steps.copy(),
            "ended": self.ended.copy(),
            "disagreement": self.disagreement.copy(),
        }

    @torch.inference_mode()
    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a state of `get_state`.

        Raises:
            ValueError: If it is not the state of that many dreams of this world model.
        """
        if self.state is None:
            self.reset(np.arange(self.num_envs), np.zeros((self.num_envs, DRAWS)))
        expected = {name: array.shape for name, array in self.get_state().items()}
        state = {name: np.array(array) for name, array in state.items()}
        given = {name: array.shape for name, array in state.items()}
        if given != expected:
            raise ValueError(f"state has {given}; accepted, as get_state gives it: {expected}")
        names = [name for name in (*LatentState._fields, "goal", "words") if name in state]
        tensors = {name: torch.tensor(state[name], device=self.device) for name in names}
        self.goal, self.words = tensors.pop("goal"), tensors.pop("words")
        self.state = LatentState(**tensors)
        for name in ("instruction", "task_name"):
            setattr(self, name, state[name].astype(object))
        for name in ("held", "steps", "ended", "disagreement"):
            setattr(self, name, state[name])
        self._look(np.arange(self.num_envs))

    def _check_options(self, options: dict[str, Any], count: int) -> dict[str, Any]:
        """Checks the options of a reset and returns them with arrays of the right type."""
        for key in options:
            checks.check_choice("options key", key, OPTIONS)
        checked, picture = dict(options), (constants.IMAGE_SIZE, constants.IMAGE_SIZE, 3)
        task = options.get("task", self.task)
        self._check_task("options['task']", task)
        if "start" in options:
            start = checked["start"] = np.asarray(options["start"])
            within = start.dtype.kind in "iu" and ((start >= 0) & (start < len(self.bank))).all()
            if start.shape not in ((), (count,)) or not within:
                raise ValueError(
                    f"options['start']={start} {start.shape}; accepted: a row of the bank, 0 to {len(self.bank) - 1}, "
                    f"or one for each of the {count} dreams that start"
                )
            if task != "all" and (others := set(self.bank.task[np.atleast_1d(start)].tolist()) - {task}):
                raise ValueError(f"options['start']={start} is of task {sorted(others)}; accepted: rows of {task!r}")
        if "instruction" in options:
            given = options["instruction"]
            sentences = np.array([given] * count if isinstance(given, str) else given, object)
            if sentences.shape != (count,) or not all(isinstance(sentence, str) for sentence in sentences):
                raise ValueError(f"options['instruction']={given!r}; accepted: a sentence, or one for each of {count}")
            checked["instruction"] = sentences
        if ("image" in options) != ("proprio" in options):
            raise ValueError("options: a start is both 'image' and 'proprio'; accepted: both or none")
        for key in options.keys() & {"image", "goal_image"}:
            checked[key] = _check_array(key, options[key], picture, np.uint8)
        if "proprio" in options:
            checked["proprio"] = _check_array("proprio", options["proprio"], (4,), np.float32)
            if not (np.abs(checked["proprio"]) <= 1).all():
                raise ValueError(f"options['proprio']={options['proprio']}; accepted: values in [-1, 1]")
        return checked


def _tensors(device: torch.device, image: np.ndarray, proprio: np.ndarray) -> tuple[Tensor, Tensor]:
    """Makes a batch of one of a picture and a set-point."""
    return torch.from_numpy(image)[None].to(device), torch.from_numpy(proprio)[None].to(device)


def _check_array(name: str, value: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Returns a copy of `value` as an array, or raises ValueError if shape or kind of number differ."""
    array = np.asarray(value)
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"options[{name!r}] is {array.dtype} {array.shape}; accepted: {np.dtype(dtype)} {shape}")
    return array.astype(dtype)

"""An interactive rollout of a world model: stepping, rewinding, imagining futures. Independent of the web server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dream_env.agents.policies import registry
from dream_env.agents.run.worlds import make_dream
from dream_env.agents.view.drivers import RANDOM, YOU, Driver, Random, Saved
from dream_env.agents.view.futures import Future, Futures
from dream_env.agents.view.twin import AUTO, Seen, Twin
from dream_env.checks import check_choice, check_count, check_number
from dream_env.initial_states import draw

LAST_SEED = 2**63 - 1
"""Largest seed; torch's generators take no larger one."""


@dataclass(frozen=True)
class SessionConfig:
    """Configuration of a session.

    Attributes:
        world_model: Name or folder of the world model.
        policies: Maps labels to policies or planners, see `dream_env.agents.policies.registry.load`. The first one
            chooses the actions at the start.
        real: Real environment, see `dream_env.agents.view.twin.Twin.of`.
        task: Task of the initial states, or "all".
        temperature: Scale of the world model's noise; 0 gives the most likely next state.
        seed: Seed of the initial states and the noise.
        history: Number of past steps to keep.
    """

    world_model: str = "default"
    policies: Mapping[str, str] = field(default_factory=dict)
    real: str = AUTO
    task: str = "all"
    temperature: float = 1.0
    seed: int = 0
    history: int = 1200

    def __post_init__(self) -> None:
        """Checks the numbers and the labels."""
        check_number("temperature", self.temperature)
        check_count("seed", self.seed, 0, LAST_SEED)
        check_count("history", self.history)
        if taken := {YOU, RANDOM} & set(self.policies):
            raise ValueError(f"policy: the label {sorted(taken)[0]!r} is taken; accepted: another, LABEL=PATH")


@dataclass(frozen=True)
class Moment:
    """The dream after one step, with everything needed to continue from there exactly.

    Attributes:
        step: Steps since the start of the episode.
        state: State returned by `DreamEnv.get_state`.
        noise: State of the random generator that draws the next noise.
        shown: Decoded observation: pictures `(H, W, 3)` uint8 and vectors `(n,)` float32.
        info: The `info` dict, as numbers.
        holds: Whether the success condition holds at this step; None if the model does not predict success.
        action: Action that led here; None at the start.
        driver: Name of the driver that chose the action.
        reward: Reward of the step.
        total: Sum of the rewards so far.
        terminated: Whether the model predicts that the episode has terminated.
        real: Output of the real environment; None without one.
    """

    step: int
    state: dict[str, np.ndarray]
    noise: dict[str, Any]
    shown: dict[str, np.ndarray]
    info: dict[str, float]
    holds: bool | None
    action: Any = None
    driver: str = YOU
    reward: float = 0.0
    total: float = 0.0
    terminated: bool = False
    real: Seen | None = None


class DreamSession:
    """One dream environment, its history, and the driver that chooses its actions.

    Args:
        config: Configuration of the session.

    Raises:
        FileNotFoundError: If the world model or a policy is missing.
        ValueError: If a file is damaged, or a policy or real environment does not fit the world model.
    """

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        policies = {label: registry.load(path) for label, path in config.policies.items()}
        words = any("words" in policy.inputs for policy in policies.values())  # then states need the instruction
        kwargs = {"obs_type": "words" if words else "embedding", "temperature": config.temperature}
        self.env = make_dream(config.world_model, task=config.task, **kwargs)
        self.engine = self.env.dreams.engine
        self.spec = self.engine.spec
        self.drivers: dict[str, Driver | None] = {YOU: None}
        self.drivers |= {label: Saved(policy, self.env) for label, policy in policies.items()}
        self.drivers[RANDOM] = Random(config.seed)
        self.driver = next(iter(config.policies), YOU)
        self.twin = Twin.of(config.real, config.world_model, self.spec)
        self.futures_of = Futures(self.engine, config.seed)
        self.tells_success = self.engine.predicts_success
        self.task, self._next = config.task, config.seed
        self.moments: list[Moment] = []
        self._at = 0
        self.reset()

    # --- properties

    @property
    def now(self) -> Moment:
        """The moment that is currently shown."""
        return self.moments[self._at]

    @property
    def past(self) -> list[Moment]:
        """The kept moments up to and including the current one."""
        return self.moments[: self._at + 1]

    @property
    def instruction(self) -> str:
        """The instruction of this episode; "" if the world has no instructions."""
        return self.env.instruction if self.spec.instructions else ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that initial states can belong to; empty if the world has only one task."""
        return tuple(name for name in self.env.dreams.initial_states.tasks if name)

    @property
    def temperature(self) -> float:
        """Scale of the noise in the following steps; 0 gives the most likely next state."""
        return self.engine.config.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        check_number("temperature", value)
        self.env.dreams.set_temperature(float(value))

    def drive(self, name: str) -> None:
        """Sets the driver that chooses the action when `step` is called without one."""
        check_choice("driver", name, self.drivers)
        self.driver = name
        self._forget()

    # --- time

    def reset(self, seed: int | None = None, instruction: str | None = None, task: str | None = None) -> Moment:
        """Starts another episode.

        Args:
            seed: Seed of the initial state and noise; None takes the next one.
            instruction: A sentence; an initial state that fits it is drawn.
            task: Task of this episode and the following ones.

        Raises:
            ValueError: If an argument, such as the sentence, is not accepted. The current episode then continues.
        """
        if task is not None:
            check_choice("task", task, (*self.tasks, "all"))
        if seed is not None:
            check_count("seed", seed, 0, LAST_SEED, beside="None, or ")
        own, asked = self._next if seed is None else int(seed), task or self.task
        options: dict[str, Any] = {} if asked == "all" or instruction is not None else {"task": asked}
        words = {} if instruction is None else {"instruction": instruction}
        if instruction is not None and not (self.spec.instructions and instruction.strip()):
            accepted = "a sentence" if self.spec.instructions else f"None, as {self.spec.name} has no sentences"
            raise ValueError(f"instruction={instruction!r}; accepted: {accepted}")
        row, real = None, None
        if self.twin is None:
            row = self._row(own, instruction, asked)
            self.env.reset(seed=own, options={"start": row, **words})
        else:
            with self.twin.kept():
                real = self.twin.reset(own, **options, **words)
                self.env.reset(seed=own, options=self.twin.start())
        self.task, self._next = asked, own + 1
        self.goal = self._goal_of(row)
        self._begin(real)
        return self.now

    def _row(self, seed: int, instruction: str | None, task: str) -> int:
        """Draws the index of the initial state of an episode."""
        chance, starts = float(np.random.default_rng([seed, 3]).random()), self.env.dreams.initial_states
        if instruction is None:
            return int(draw(starts.chances(task), chance))
        return int(self.env.dreams.fitting(instruction, None, chance))

    def _goal_of(self, row: int | None) -> dict[str, np.ndarray]:
        """Returns the goal observation, empty if the world has no goals."""
        if not self.spec.goals:
            return {}
        if row is None:
            assert self.twin is not None
            return self.twin.start()["goal"]
        starts = self.env.dreams.initial_states
        return {name: part[starts.goal[row]] for name, part in starts.goal_observation.items()}

    def _begin(self, real: Seen | None) -> None:
        self._forget()
        self.moments, self._at = [self._moment(real=real)], 0

    def _forget(self) -> None:
        for driver in self.drivers.values():
            if driver is not None:
                driver.reset()  # type: ignore[attr-defined]

    def step(self, action: Any = None, by: str | None = None) -> Moment:
        """Takes one step from the current moment and drops later moments of the history.

        Args:
            action: Action; values outside the action space are clipped. None lets the driver choose.
            by: Name of the driver that gave the action.

        Raises:
            ValueError: If the episode is over, or the action has the wrong shape.
        """
        before = self.now
        if before.terminated:
            raise ValueError("the episode is over; accepted: going back, or a new start")
        if action is None:
            action, by = self._choose(), self.driver
        action = self.typed(action)
        real = None
        _, reward, terminated, _, _ = self.env.step(action)
        if self.twin is not None and before.real is not None:
            real = before.real if before.real.ended else self.twin.step(action, before.real)
        del self.moments[self._at + 1 :]
        self.moments.append(
            self._moment(
                step=before.step + 1,
                action=action,
                driver=by or YOU,
                reward=reward,
                total=before.total + reward,
                terminated=terminated,
                real=real,
            )
        )
        del self.moments[: -self.config.history - 1]
        self._at = len(self.moments) - 1
        return self.now

    def rewind(self, step: int) -> Moment:
        """Restores a moment of the history exactly: the same actions lead to the same steps again.

        Args:
            step: Step of the moment; the nearest kept one is used.
        """
        first = self.moments[0].step
        at = int(np.clip(int(step) - first, 0, len(self.moments) - 1))
        if at != self._at:
            self._at = at
            self.env.set_state(self.now.state)
            self.env.np_random.bit_generator.state = self.now.noise
            self._forget()
        return self.now

    def futures(self, count: int = 6, horizon: int = 8) -> list[Future]:
        """Imagines possible futures, without changing the session.

        Args:
            count: Number of futures.
            horizon: Steps of each future.
        """
        driver = self.drivers[self.driver]
        policy = driver.proposes if isinstance(driver, Saved) else None
        return self.futures_of.imagine(self.env.dreams.carry, policy, count, horizon)

    def close(self) -> None:
        """Closes the dream and the real environment."""
        self.env.close()
        if self.twin is not None:
            self.twin.close()

    # --- internals

    def _choose(self) -> Any:
        driver = self.drivers[self.driver]
        return self.engine.still(1)[0].cpu().numpy() if driver is None else driver(self.env)

    def typed(self, action: Any) -> Any:
        """Returns an action in the dtype of the dream's action space, clipped to its bounds.

        Raises:
            ValueError: If the action has the wrong shape or is not finite.
        """
        space: Any = self.spec.action
        array = np.asarray(action)
        if array.shape != (space.shape or ()) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"action={action!r}; accepted: finite numbers of shape {space.shape or ()}")
        if not self.engine.continuous:
            return int(np.clip(array, space.start, space.start + space.n - 1))
        return np.clip(array.astype(np.float32), space.low, space.high)

    def _moment(self, **known: Any) -> Moment:
        """Records the current state of the dream as a moment."""
        dreams = self.env.dreams
        with torch.inference_mode():
            decoded = self.engine.model.decode(self.engine.state(dreams.carry))
        holds = bool(dreams.carry["_streak"][0] > 0) if self.tells_success else None
        given = {"step": 0, **known}
        return Moment(
            state=self.env.get_state(),
            noise=self.env.np_random.bit_generator.state,  # type: ignore[arg-type]
            shown={name: part[0].cpu().numpy().copy() for name, part in decoded.items()},
            info={name: float(value[0]) for name, value in dreams.info().items()},
            holds=holds,
            **given,
        )

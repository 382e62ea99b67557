"""Callbacks of a training run: progress bar, validation in the real environment, and saving."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from dream_env.agents.policies import registry
from dream_env.agents.policies.protocol import Policy
from dream_env.agents.run.config import command_line
from dream_env.agents.run.sb3_state import CHECKPOINT, save_algorithm
from dream_env.agents.run.worlds import spec_of, tasks_of
from dream_env.agents.train.arguments import VALIDATION_SEED, Arguments
from dream_env.agents.train.learners import policy_of
from dream_env.files import write_json
from dream_env.progress import progress_bar
from dream_env.spec import observe, success_of

SAVE_SECONDS = 60.0
"""Maximum time in seconds between two saves of a run, apart from the rollout and update in which it passes."""


def validate(
    policy: Policy,
    env: gym.Env,
    tasks: Sequence[str],
    episodes: int,
    limit: int | None = None,
    after_step: Callable[[], object] = bool,
) -> dict[str, float]:
    """Evaluates a policy in the real environment, always on the same seeds.

    Args:
        policy: Policy; its deterministic actions are used.
        env: The real environment, or one with the same interface.
        tasks: Tasks, which take turns; empty if the environment has no tasks to choose from.
        episodes: Number of episodes.
        limit: Control steps after which an episode ends; None leaves this to the environment.
        after_step: Called after every step; may raise an error to stop.

    Returns:
        The mean return; if `info` has "is_success" or "success", the success rate at the end of the episodes, overall
        and per task; if `info` has "distance", the mean final distance to the goal.
    """
    found: dict[str, list[float]] = {}
    for i in range(episodes):
        options = {"task": tasks[i % len(tasks)]} if tasks else None
        obs, info = env.reset(seed=VALIDATION_SEED + i, options=options)
        policy.reset()
        total, steps, ended = 0.0, 0, False
        while not ended:
            action = policy.act({name: value[None] for name, value in observe(obs).items()})[0]
            obs, reward, terminated, truncated, info = env.step(action)
            after_step()
            total, steps = total + float(reward), steps + 1
            ended = terminated or truncated or steps == limit
        found.setdefault("return", []).append(total)
        if (done := success_of(info)) is not None:
            for name in ("success", *(f"success_{task}" for task in (options or {}).values())):
                found.setdefault(name, []).append(float(done))
        if "distance" in info:
            found.setdefault("distance", []).append(float(info["distance"]))
    first = {"success": found.pop("success")} if "success" in found else {}
    return {name: float(np.mean(values)) for name, values in {**first, **found}.items()}


def merit(entry: dict[str, float]) -> float | None:
    """Returns the figure that selects the best validation: success rate, else return; None if there is neither."""
    return entry.get("success", entry.get("return"))


class Bar(BaseCallback):
    """Shows the progress of training, and the mean return and success rate of the latest episodes.

    Args:
        total: Number of steps of the whole run.
        where: Name of the world that is trained in.
        hidden: Shows nothing.
    """

    def __init__(self, total: int, where: str, hidden: bool = False) -> None:
        super().__init__()
        self.total, self.where, self.hidden = total, where, hidden

    def _on_training_start(self) -> None:
        options = {"initial": self.model.num_timesteps, "unit": "step", "unit_scale": True, "disable": self.hidden}
        self.bar = progress_bar(desc=f"train in the {self.where}", total=self.total, **options)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._show()

    def _on_rollout_start(self) -> None:
        self._show()

    def _show(self) -> None:
        if (more := self.model.num_timesteps - self.bar.n) <= 0:
            return
        episodes, won = self.model.ep_info_buffer or (), self.model.ep_success_buffer or ()
        said = [f"reward {np.mean([each['r'] for each in episodes]):.3g}"] if len(episodes) else []
        said += [f"success {np.mean(list(won)):.0%}"] if len(won) else []
        self.bar.set_postfix_str(", ".join(said), refresh=False)
        self.bar.update(more)

    def _on_training_end(self) -> None:
        self._show()
        self.bar.close()


class Validation(BaseCallback):
    """Validates in the real environment every `validate_every` steps, keeps the best policy, and saves the run.

    This happens between two updates, at the start of a rollout. In between, the run is saved every `SAVE_SECONDS`.

    Args:
        args: See `Arguments`.
        env: Real environment; None to save without validation.

    Attributes:
        interrupted: Returns whether training should stop, see `delayed_interrupt`; checked after every step.
    """

    def __init__(self, args: Arguments, env: gym.Env | None) -> None:
        super().__init__()
        self.args, self.env = args, env
        self.file = args.out / "validation.json"
        self.interrupted: Callable[[], bool] = bool
        self.saved = time.monotonic()
        self.history: list[dict[str, float]] = []
        if self.file.exists():
            self.history = json.loads(self.file.read_text())

    def _init_callback(self) -> None:
        self.rollout_start = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        self.rollout_start = self.model.num_timesteps
        self._stop_if_interrupted()
        due = self.model.num_timesteps // self.args.validate_every
        last = self.history[-1]["steps"] // self.args.validate_every if self.history else -1
        if due > last:
            self.measure()
        elif time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save()

    def _on_step(self) -> bool:
        self._stop_if_interrupted()
        return True

    def _stop_if_interrupted(self) -> None:
        if self.interrupted():
            raise KeyboardInterrupt

    def save(self) -> None:
        """Saves the state of the run, from which it can be resumed; raises ValueError if training has diverged."""
        check_finite(self.args, self.model)
        save_algorithm(self.model, self.args.out / CHECKPOINT)
        self.saved = time.monotonic()

    def save_interrupted(self) -> None:
        """Saves the state of the run without the steps of the unfinished rollout, which no update has used."""
        self.model.num_timesteps = self.rollout_start
        self.save()

    def measure(self) -> None:
        """Validates and saves now, unless this was done already; raises ValueError if training has diverged."""
        check_finite(self.args, self.model)
        steps, args = self.model.num_timesteps, self.args
        if self.history and self.history[-1]["steps"] == steps:
            if self.env is None or merit(self.history[-1]) is not None:
                return
            self.history.pop()  # saved by an earlier command without validation
        policy: Any = policy_of(args, self.model)
        entry: dict[str, float] = {"steps": steps}
        if self.env is not None:
            tasks = tasks_of(args.world_model)
            asked = (args.task,) if tasks and args.task != "all" else tasks
            limit = spec_of(args.world_model).horizon
            episodes = args.validation_episodes
            entry |= validate(policy, self.env, asked, episodes, limit, self._stop_if_interrupted)
            for name, value in entry.items():
                self.logger.record(f"physics/{name}", value)
            self.logger.dump(steps)
            entry["episodes"] = episodes  # a resumed run may validate with another number
            before = [known for past in self.history if (known := merit(past)) is not None]
            best = merit(entry)
            if best is not None and best > max(before, default=-np.inf):
                registry.save(policy, args.out / "best", card(args, [entry]))
        self.history.append(entry)
        if args.snapshots:
            registry.save(policy, args.out / "snapshots" / f"{steps:09d}", card(args, [entry]))
        self.save()
        write_json(self.file, self.history)


def check_finite(args: Arguments, model: BaseAlgorithm, error: ValueError | None = None) -> None:
    """Raises ValueError if training has diverged: a weight is NaN or infinite, or torch refused the policy's output.

    Args:
        args: See `Arguments`.
        model: The algorithm.
        error: What ended the training.
    """
    refused = error is not None and str(error).startswith("Expected parameter")  # of a distribution of actions
    if refused or not all(bool(weight.isfinite().all()) for weight in model.policy.parameters()):
        rate = f"{model.lr_schedule(1):g}, the default" if args.rate is None else f"{args.rate:g}"
        raise ValueError(
            f"rate={rate}: training diverged after {model.num_timesteps:,} steps; accepted: a smaller --rate, with "
            "another --out; nothing that diverged was saved"
        ) from error


def card(args: Arguments, history: list[dict[str, float]]) -> str:
    """Returns the text of a policy's card: how it was trained, and its validation results."""
    names = list(dict.fromkeys(name for entry in history for name in entry))
    rows = [[f"{entry[n]:g}" if n in entry else "" for n in names] for entry in history]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])
    start = f"from clone `{args.init}`" if args.init else "from random weights"
    return (
        f"# Policy trained by {args.algo} in the {args.world}\n\n"
        f"`{command_line('train', args)}`\n\n"
        f"Task {args.task}, {start}, world model `{args.world_model}`, reward "
        f"{args.reward_in(spec_of(args.world_model).goals)}, seed {args.seed}. Kept: {args.select}.\n\n"
        f"Validation in the real world, from seed {VALIDATION_SEED}:\n\n"
        f"{table}\n"
    )

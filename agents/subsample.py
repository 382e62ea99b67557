"""Keeps every K-th frame of a recording: `python -m agents.subsample --data data/robot --frame-skip 5 --out data/slow`.

Robots are recorded at 30 to 50 frames per second. One such step may change less than the sensors' noise, and errors
of a world model add up over the hundreds of steps of a dream. About 10 frames per second suit most arms. The result is
a data set like any other. Give the same command again to resume it, or to add episodes recorded since.

An action of the result stands for K recorded ones. How they become one (`--actions`) depends on what the robot takes:

- last: targets, such as positions of joints or of the hand, and grippers: the target at the end counts. Also buttons.
- sum: displacements, such as a change of the hand's position: K small ones make a large one. The bounds are K times as
  wide. If only some entries are displacements, as for a hand with a gripper, name them: `--sum 0 1 2`.
- mean: velocities, forces and torques.
- first: if the actions were held for K frames anyway.

The frames 0, K, 2K, ... are kept, and rewards are summed. The fewer than K steps after the last of them are left out,
unless the episode terminates there or ends with success, with its goal or with its highest reward: then its last frame
is kept, too, after a shorter step. Episodes of which only one frame would be left are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from gymnasium import spaces

from dream_env.agents.collect import MODULES
from dream_env.agents.run.config import EPISODES, check_out, check_settings, resolve_paths
from dream_env.checks import check_choice, check_count
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.writer import EpisodeWriter
from dream_env.files import write_json
from dream_env.preparation import Preparation, parts_of, scaled
from dream_env.progress import progress_bar
from dream_env.spec import WorldSpec

Actions = Literal["last", "first", "mean", "sum"]


@dataclass(frozen=True)
class Arguments:
    """Keeps every K-th frame of recorded episodes; the same command again resumes it."""

    data: Path
    """Folder of the recorded episodes."""
    frame_skip: int
    """K: one of K frames is kept. The frames per second divided by 10 is a good start."""
    out: Path
    """Folder of the new data set."""
    actions: Actions = "last"
    """How K actions become one: last (targets, grippers), sum (displacements), mean (velocities, torques) or first."""
    sum: tuple[int, ...] = ()
    """Entries of the action, counted from 0, that are summed whatever --actions says."""

    def __post_init__(self) -> None:
        """Checks the values."""
        check_count("frame_skip", self.frame_skip, 2)
        check_choice("actions", self.actions, Actions)


def summed(args: Arguments, space: spaces.Box | spaces.Discrete) -> tuple[int, ...]:
    """Returns the entries of an action that are summed, in order.

    Raises:
        ValueError: If actions that are no vector should be summed or averaged, or there is no such entry.
    """
    if isinstance(space, spaces.Discrete):
        if args.sum or args.actions in ("mean", "sum"):
            raise ValueError(f"actions={args.actions!r}, sum={args.sum} of {space}; accepted: 'last' or 'first'")
        return ()
    if any(not 0 <= entry < space.shape[0] for entry in args.sum):
        raise ValueError(f"sum={args.sum}; accepted: entries of the action, 0 to {space.shape[0] - 1}")
    return tuple(range(space.shape[0])) if args.actions == "sum" else tuple(sorted({*args.sum}))


def slower(spec: WorldSpec, skip: int, entries: tuple[int, ...]) -> WorldSpec:
    """Returns the spec of the new episodes, of which an environment is made that runs at their rate.

    It repeats every action for `skip` steps and divides the `entries` that are summed among these.

    Raises:
        ValueError: If the world's control rate is fixed, or other entries were divided in an earlier frame skip.
    """
    if spec.name in MODULES:
        raise ValueError(f"data: {spec.name} has a fixed control rate; accepted: episodes of another environment")
    before, action = Preparation.of(spec.preparation), spec.action
    if before.skip > 1 and (had := tuple(sorted({*before.divided}))) != entries:
        raise ValueError(
            f"sum={entries}: the data were recorded with a frame skip of {before.skip}, in which the entries {had} are "
            "displacements; accepted: to sum these and no others"
        )
    if entries:
        action = scaled(action, parts_of(action, skip, entries))
    return replace(
        spec,
        action=action,
        horizon=None if spec.horizon is None else -(-spec.horizon // skip),
        control_hz=None if spec.control_hz is None else spec.control_hz / skip,
        hold_steps=-(-spec.hold_steps // skip),
        preparation=replace(before, skip=before.skip * skip, divided=entries).to_json(),
    )


def frames_of(episode: Episode, skip: int) -> np.ndarray:
    """Returns the indices of the frames to keep, `(n,)`; only the first one if the episode is too short."""
    steps, reward = len(episode), episode.reward
    frames = np.arange(0, steps + 1, skip)
    happens = [
        episode.terminated,
        episode.success is not None and episode.success[-1],
        episode.goal and all(np.array_equal(episode.observation[k][-1], goal) for k, goal in episode.goal.items()),
        reward is not None and reward[-1] > reward[:-1].max(initial=-np.inf),
    ]
    return np.append(frames, steps) if frames[-1] < steps and any(happens) else frames


def subsampled(episode: Episode, frames: np.ndarray, how: Actions, entries: tuple[int, ...]) -> Episode:
    """Returns an episode of the frames `(n,)` of another, n >= 2, of whose actions the `entries` are summed."""
    starts, last = frames[:-1], frames[-1]

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[:last].astype(np.float64), starts)

    action = episode.action[frames[1:] - 1 if how == "last" else starts]
    if how == "mean":
        low, high = (reduce.reduceat(episode.action[:last], starts) for reduce in (np.minimum, np.maximum))
        mean = total(episode.action) / np.diff(frames)[:, None]
        action = mean.astype(np.float32).clip(low, high)  # rounding would otherwise leave the bounds
    if entries:
        columns = list(entries)
        action[:, columns] = total(episode.action[:, columns])
    return replace(
        episode,
        observation={name: values[frames] for name, values in episode.observation.items()},
        action=action,
        reward=None if episode.reward is None else total(episode.reward).astype(np.float32),
        success=None if episode.success is None else episode.success[frames],
        labels={name: values[frames] for name, values in episode.labels.items()},
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out, EPISODES, args.data)
    data, skip = EpisodeDataset.load(args.data), args.frame_skip
    entries = summed(args, data.spec.action)
    spec = slower(data.spec, skip, entries)
    if skip > (longest := int(data.lengths.max())):
        raise ValueError(f"frame_skip={skip}: the longest episode has {longest} steps; accepted: 2 to {longest}")
    file, written = args.out / "meta" / "subsample.json", 0
    asked = {"data": str(args.data), "frame_skip": skip, "actions": args.actions, "sum": [*entries]}
    settings = resolve_paths(asked)
    if file.is_file():
        check_settings(args.out, json.loads(file.read_text(encoding="utf-8")), settings)
    elif (args.out / "meta" / "info.json").exists():
        raise ValueError(f"out={args.out} holds other episodes; accepted: a new folder, or that of the run to resume")
    with EpisodeWriter(args.out, spec) as writer:
        there = writer.seeds()
        if there - {*data.seed.tolist()}:
            raise ValueError(f"out={args.out} holds episodes that are not in data={args.data}; accepted: a new folder")
        for i in progress_bar(range(len(data)), unit="episode"):
            if int(data.seed[i]) not in there:
                episode = data[i]
                frames = frames_of(episode, skip)
                if len(frames) < 2:
                    continue
                writer.add(subsampled(episode, frames, args.actions, entries), i)
            if not written:
                write_json(file, settings)
            written += 1
    rate = f", {spec.control_hz:g} a second" if spec.control_hz else ""
    left_out = f"; left out as too short: {len(data) - written}" if written < len(data) else ""
    print(f"{args.out}: {written} episodes, one of {skip} frames{rate}{left_out}")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("subsample")

"""Amplification: imagines episodes with a clone of few demonstrations, and clones the trusted ones in addition.

Episodes are imagined from physics starts with their own seeds. Physics can therefore verify every episode, by the same
actions from the same start, open loop. This verification is the filter of the "oracle" control, and it measures the
precision of the filter of `agents.synthesize`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.eval.statistics import wilson
from dream_env.agents.nicol.physics_starts import carry_out, physics_starts
from dream_env.agents.planners.foresight import looking
from dream_env.agents.planners.prior import Prior
from dream_env.agents.planners.problem import Noise
from dream_env.agents.run import workers as pool
from dream_env.agents.synthesize import command as synthesize
from dream_env.agents.synthesize.arguments import Arguments as Synthesize
from dream_env.agents.train import command as train
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset as AnyEpisodes
from dream_env.data.writer import EpisodeWriter
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

CONTROLS = ("real", "unfiltered", "filtered", "oracle", "foresight")
"""Imagined episodes that are cloned in addition to the demonstrations: none ("real"), all ("unfiltered"), those that
`agents.synthesize` keeps ("filtered"), those that physics confirms ("oracle"), or those kept from dreams in which the
clone acts with foresight ("foresight")."""
CANDIDATES = 16
"""Number of candidates that the clone compares in foresight."""
SEED = 600_000
"""First of the seeds of starts for imagination; none of them is held out."""
DEMOS = 5
"""Default number of demonstrations per task."""
PRACTICE = 500_000
"""Control steps of RL in the dream, with the distance to the goal picture as reward."""


@dataclass(frozen=True)
class Amplification:
    """Settings of imagination and cloning.

    Attributes:
        data: Folder of the demonstrations.
        folder: Folder of policies and imagined episodes.
        tasks: Names of the tasks.
        starts: Starts per task.
        variants: Episodes imagined from each start.
        updates: Gradient updates of every clone.
        share: Fraction of imagined frames in a batch.
        seed: Training seed of the policy that imagines, and of those that are cloned.
        demos: Demonstrations per task.
    """

    data: Path
    folder: Path
    tasks: tuple[str, ...]
    starts: int = 60
    variants: int = 3
    updates: int = 1500
    share: float = 0.5
    seed: int = 0
    demos: int = DEMOS

    def policy(self, control: str) -> Path:
        """Folder of a clone."""
        return self.folder / (
            f"{control}-{self.seed}" if self.demos == DEMOS else f"{control}-{self.demos}-{self.seed}"
        )

    def imagined(self, control: str) -> Path:
        """Folder of the imagined episodes of a control; those with foresight take minutes, so all seeds share them."""
        return self.folder / ("imagined-foresight-0" if control == "foresight" else f"imagined-{self.seed}")


@dataclass(frozen=True)
class Start:
    """A start from which episodes are imagined: the unit of work of a process.

    Attributes:
        policy: Folder of the policy.
        task: Name of the task.
        seed: Seed of the start in physics.
        variants: Number of episodes.
        candidates: Number of candidates that the policy compares in foresight; 0 for no foresight.
    """

    policy: str
    task: str
    seed: int
    variants: int
    candidates: int = 0


def imagine_from(item: Start) -> list[Episode]:
    """Imagines episodes; their labels `kept` and `confirmed` are the decisions of the filter and of physics."""
    torch.set_num_threads(1)
    starts, solved = physics_starts(item.task, (item.seed,))
    if solved[0]:
        return []
    model, prior, row = (
        checkpoint.load("state_grounded"),
        Prior(looking(item.policy, "state_grounded", item.candidates), Synthesize.std),
        np.zeros(1, np.int64),
    )
    dreamt = synthesize.dream(
        model, prior, *synthesize.begun(model, starts, row), item.variants, Synthesize.draws, Noise([item.seed])
    )
    kept = dreamt.kept(model.spec.hold_steps, Synthesize.agree, model.config.disagreement_threshold).tolist()
    found = []
    for i, actions in enumerate(dreamt.actions.numpy()):
        true = carry_out(item.task, item.seed, actions).is_success
        episode = synthesize.episode_of(model, starts, dreamt, i, 0, item.seed * 100 + i)
        verdicts = {
            name: np.full(len(episode) + 1, float(value)) for name, value in (("kept", kept[i]), ("confirmed", true))
        }
        found.append(replace(episode, labels={**episode.labels, **verdicts}))
    return found


def imagine(args: Amplification, workers: int | None = None, control: str = "filtered") -> AnyEpisodes:
    """Imagines the missing episodes of a control, and loads all of them."""
    folder = args.imagined(control)
    policy = str(make("real", replace(args, seed=0) if control == "foresight" else args))
    candidates, done = CANDIDATES if control == "foresight" else 0, folder.with_name(f"{folder.name}.done")
    if not done.is_file():
        with EpisodeWriter(folder, SPEC) as writer:
            there = {seed // 100 for seed in writer.seeds()}
            items = [  # every task has its own range of seeds
                Start(policy, task, SEED + 10_000 * t + i, args.variants, candidates)
                for i in range(args.starts)
                for t, task in enumerate(args.tasks)
            ]
            items = [item for item in items if item.seed not in there]
            found = pool.imap(imagine_from, items, workers, ordered=True)
            for episodes in progress_bar(found, total=len(items), desc="imagine", unit="start"):
                for episode in episodes:
                    writer.add(episode)
        done.touch()
    return AnyEpisodes.load(folder, spec=SPEC)


def flags(data: AnyEpisodes, label: str) -> np.ndarray:
    """Returns a label of every episode, `(N,)` bool."""
    values = np.asarray(data.labels[label])
    return values.reshape(len(values), -1)[data.offsets[:-1], 0] > 0.5


def chosen(data: AnyEpisodes, control: str) -> AnyEpisodes:
    """Returns the imagined episodes that a control clones."""
    names = {"filtered": "kept", "oracle": "confirmed", "foresight": "kept"}
    return data.take(np.flatnonzero(flags(data, names[control]))) if control in names else data


def make(control: str, args: Amplification, workers: int | None = None) -> Path:
    """Clones one of `CONTROLS` unless it exists; returns its folder."""
    out = args.policy(control)
    if not (out / "config.json").is_file():
        real = control == "real"
        settings = clone.Arguments(
            (args.data,) if real else (args.data, args.imagined(control)),
            out,
            per_task=args.demos,
            updates=args.updates,
            share=0.0 if real else args.share,
            seed=args.seed,
        )
        further = None if real else chosen(imagine(args, workers, control), control)
        clone.run(settings, EpisodeDataset.load(args.data), checkpoint.load("state_grounded"), further)
    return out


def practise(args: Amplification) -> Path:
    """Practices the "real" clone in the dream unless the policy exists; returns the policy's folder."""
    practice = train.Arguments(
        out=args.policy("practised"),
        init=str(make("real", args)),
        steps=PRACTICE,
        validate_every=PRACTICE,
        validation_episodes=0,
        seed=args.seed,
    )
    if not (practice.out / "config.json").is_file():
        train.train(practice, train.make_env(practice), None)
    return practice.out


def precision(data: AnyEpisodes, name: str = "filter") -> dict[str, float]:
    """Returns how often physics confirms kept, successful, and all imagined episodes; keys start with `name`."""
    kept, true = flags(data, "kept"), flags(data, "confirmed")
    interval = wilson(int((kept & true).sum()), int(kept.sum()))
    return {
        f"{name}_precision": interval.value,
        f"{name}_precision_low": interval.low,
        f"{name}_precision_high": interval.high,
        f"{name}_precision_unfiltered": float(true[data.solved].mean()),
        f"{name}_base": float(true.mean()),
        f"{name}_kept": float(kept.mean()),
        f"{name}_episodes": len(data),
    }

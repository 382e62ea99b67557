"""Figures of the transfer study: counts, comparisons, and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dream_env.agents.eval.results import WORLDS, EpisodeResult
from dream_env.agents.eval.statistics import UNKNOWN, Interval, paired_difference, wilson
from dream_env.agents.studies.transfer.plan import MODEL_FREE, WALL, Trial
from dream_env.agents.studies.transfer.policies import TrainedPolicy
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.tasks import STANDARD

Key = tuple[int, str, int]
"""Key by which episodes of two policies are paired: training seed, task, seed of the start."""


class PlayedTrial(NamedTuple):
    """A trial with its policy and its episodes."""

    trial: Trial
    made: TrainedPolicy
    episodes: Sequence[EpisodeResult]


@dataclass(frozen=True)
class Results:
    """All finished trials.

    Attributes:
        played: The trials.
        demos: Demonstrations per task of the main comparison.
        world_model_steps: Physics steps of the episodes that the world model was fitted to.
    """

    played: Sequence[PlayedTrial]
    demos: int = 100
    world_model_steps: int = 0

    def select(self, method: str, **condition: Any) -> list[PlayedTrial]:
        """Returns the trials of a method, of all seeds, under the standard condition except for what is given."""
        wanted = {"demos": self.demos, "instruction": "normal", "shift": "none", "budget": "", **condition}

        def fits(trial: Trial) -> bool:
            there = vars(trial.spec) | vars(trial)
            return trial.spec.method == method and all(there[name] == value for name, value in wanted.items())

        return [one for one in self.played if fits(one.trial)]

    def episodes(
        self, method: str, task: str = "all", world: str = "physics", **condition: Any
    ) -> dict[Key, EpisodeResult]:
        """Returns the episodes of a method over all training seeds, without those that are solved at the start."""
        return {
            (one.trial.spec.seed, o.task, o.seed): o
            for one in self.select(method, **condition)
            for o in one.episodes
            if o.world == world and task in (o.task, "all") and not o.solved_at_start
        }

    def rate(self, method: str, task: str = "all", world: str = "physics", **condition: Any) -> Interval:
        """Returns the success rate of a method over all training seeds, with its Wilson interval."""
        won = [o.success for o in self.episodes(method, task, world, **condition).values()]
        return wilson(sum(won), len(won))

    def gain(
        self,
        before: str,
        after: str,
        world: str = "physics",
        *,
        was: Mapping[str, Any] = {},
        now: Mapping[str, Any] = {},
    ) -> Interval:
        """Returns the paired difference in success on the episodes of both methods.

        Args:
            before: Method to compare with.
            after: Method that is compared.
            world: "physics" or "dream".
            was: Condition of `before`.
            now: Condition of `after`.
        """
        one, other = self.episodes(before, world=world, **was), self.episodes(after, world=world, **now)
        common = [key for key in one if key in other]
        return paired_difference([one[key].success for key in common], [other[key].success for key in common])

    def evaluations(self, method: str) -> dict[str, int]:
        """Returns the physics steps of practice at every evaluated budget of a method, in increasing order."""
        steps: dict[str, int] = {}
        for one in self.played:
            if (one.trial.spec.method, one.trial.spec.demos, one.trial.usual) == (method, self.demos, True):
                steps[one.trial.budget] = max(steps.get(one.trial.budget, 0), one.made.practice_steps)
        return dict(sorted(steps.items(), key=lambda item: item[1]))

    def contacts(self, method: str, color: str, **condition: Any) -> tuple[float, int]:
        """Returns the fraction of episodes with a contact in which a given cube was touched first, and their number.

        Args:
            method: The method.
            color: "named" for the cube of the original instruction, "told" for that of the given instruction.
            **condition: See `select`.
        """
        pairs = [(o.touched, getattr(o, color)) for o in self.episodes(method, **condition).values()]
        met = [touched == wanted for touched, wanted in pairs if touched is not None and wanted is not None]
        return float(np.mean(met)) if met else math.nan, len(met)


def cells(results: Results) -> list[dict[str, Any]]:
    """Reduces every trial to a cell per task, and a cell over all tasks."""
    rows = []
    for one in results.played:
        trial, made, alone = one.trial, one.made, Results([one], one.trial.spec.demos)
        method, condition = trial.spec.method, {"instruction": trial.instruction, "shift": trial.shift}
        shown = trial.spec.demos * len(STANDARD) * EPISODE_STEPS * (method != "sac_her_physics")
        for task in [*STANDARD, "all"]:
            rates = {w: alone.rate(method, task, w, budget=trial.budget, **condition) for w in WORLDS}
            rows.append(
                {"method": method, "demos": trial.spec.demos, "task": task, **condition}
                | {"seed": trial.spec.seed, "budget": trial.budget}
                | {"episodes": len(alone.episodes(method, task, budget=trial.budget, **condition))}
                | {f"{w}_{end}": figure(x) for w, rate in rates.items() for end, x in zip(ENDS, rate, strict=True)}
                | {"physics_steps_for_training": shown + made.practice_steps, "practice_steps": made.practice_steps}
                | {"practice_cpu_s": figure(made.practice_cpu_s, 1), "wall_s": figure(made.wall_s, 1)}
            )
    return rows


ENDS = ("success", "low", "high")
"""Names of the parts of an interval in a cell."""


def figure(value: float, digits: int = 4) -> float | None:
    """Rounds a figure; NaN becomes None, since JSON has no NaN."""
    return None if math.isnan(value) else round(float(value), digits) + 0.0  # no -0.0


# --- the figures of "Must show"


def summarize(results: Results) -> dict[str, Any]:
    """Computes the figures of "Must show"; None if the trials for a figure are missing.

    The main figures are those of practice in the frozen dream, which takes no step in physics; the figures of
    co-evolution are given in addition.
    """
    summary: dict[str, Any] = {"demos": results.demos}
    for task in [*STANDARD, "all"]:
        summary |= _interval(f"{task}_physics", results.rate("dream", task))
    before, after = results.rate("clone"), results.rate("dream")
    summary |= _interval("clone_physics", before)
    summary["intervals_apart"] = None if math.isnan(before.value + after.value) else bool(after.low > before.high)
    for name, method in (("", "dream"), ("_coevolved", "dream_coevolved")):
        real, dreamt = results.gain("clone", method), results.gain("clone", method, "dream")
        summary |= real.point_figures(f"gain{name}") | dreamt.point_figures(f"gain{name}_dream")
        summary[f"gain{name}_by_seed_points"] = _by_seed(results, method)
        summary[f"physics_share_of_dream{name}"] = figure(_share(real.value, dreamt.value))
    gain, other = (summary[f"gain{name}_points"] or 0.0 for name in ("", "_coevolved"))
    summary["frozen_share_of_gain"] = figure(_share(gain, max(gain, other)))
    return summary | _language(results) | _costs(results) | _model_free(results) | _shifts(results)


def _interval(name: str, found: Interval) -> dict[str, Any]:
    return {name: figure(found.value), f"{name}_low": figure(found.low), f"{name}_high": figure(found.high)}


def _by_seed(results: Results, method: str) -> str | None:
    """Formats the gain of every training seed, since the intervals do not cover the variation between seeds."""
    seeds = sorted({one.trial.spec.seed for one in results.select(method)})
    gains = [100 * results.gain("clone", method, was={"seed": s}, now={"seed": s}).value for s in seeds]
    return ", ".join("–" if math.isnan(gain) else f"{round(gain):+d}" for gain in gains) or None


def _share(part: float, whole: float) -> float:
    """Returns a share of a gain; NaN if there is no gain."""
    return part / whole if whole > 0 else math.nan


def _language(results: Results) -> dict[str, Any]:
    named, count = results.contacts("dream", "named")
    told, swapped = results.contacts("dream", "told", instruction="swapped")
    return {
        "contacts": count,
        "contacts_on_named": figure(named),
        "swapped_contacts": swapped,
        "swapped_contacts_on_told": figure(told),
        "swapped_success": figure(results.rate("dream", instruction="swapped").value),
        "shuffled_success": figure(results.rate("dream", instruction="shuffled").value),
        "absent_success": figure(results.rate("dream", instruction="absent").value),
        "heldout_cost_points": figure(-100 * results.gain("dream", "dream", now={"instruction": "heldout"}).value, 1),
    }


def _costs(results: Results) -> dict[str, Any]:
    def longest(method: str) -> float | None:  # by the clock
        return max((round(one.made.practice_wall_s / 60, 2) for one in results.select(method)), default=None)

    steps = [one.made.practice_steps for one in results.select("dream_coevolved")]
    return {
        "dream_rl_minutes": longest("dream"),
        "coevolution_minutes": longest("dream_coevolved"),
        "coevolution_steps": max(steps, default=None),
        "world_model_steps": results.world_model_steps,
    }


def _model_free(results: Results) -> dict[str, Any]:
    """Compares with learners that practice in physics, and returns the steps they need to match the frozen dream.

    They are compared at their first evaluation, after as many steps as co-evolution takes, and at equal CPU time.
    """
    goal = results.rate("dream").value
    found: dict[str, Any] = {}
    for method in MODEL_FREE:
        found_at = results.evaluations(method)
        equal = next((budget for budget in found_at if budget != WALL), None)
        ahead = {"equal_steps": equal, "equal_time": WALL if WALL in found_at else None}
        for name, budget in ahead.items():
            gain = UNKNOWN
            if budget is not None:
                gain = results.gain(method, "dream", was={"budget": budget})
            found |= gain.point_figures(f"ahead_of_{method}_{name}")
        reached = {taken: results.rate(method, budget=budget).value for budget, taken in found_at.items()}
        matched = [taken for taken, rate in reached.items() if rate >= goal]
        found[f"{method}_steps_to_match"] = min(matched, default=None)
        found[f"{method}_steps_tried"] = max(found_at.values(), default=None)
    return found


def _shifts(results: Results) -> dict[str, Any]:
    shifts = dict.fromkeys(one.trial.shift for one in results.played if one.trial.shift != "none")
    return {
        f"{shift}_{method}": figure(results.rate(method, shift=shift).value)
        for shift in shifts
        for method in ("clone", "dream")
    }


class Target(NamedTuple):
    """A bound of "Must show": description, key in the summary, bound, and whether it is an upper bound."""

    text: str
    key: str
    bound: float
    below: bool = False


TARGETS = (
    Target("reach in physics", "reach_physics", 0.95),
    Target("push in physics", "push_physics", 0.85),
    Target("lift in physics", "lift_physics", 0.85),
    Target("gain over the clone (points)", "gain_points", 20),
    Target("intervals of clone and practiced policy apart", "intervals_apart", True),
    Target("share of the best gain with the frozen world model", "frozen_share_of_gain", 0.5),
    Target("gain in physics per gain in the dream", "physics_share_of_dream", 2 / 3),
    Target("first contact with the named cube", "contacts_on_named", 0.95),
    Target("told another cube: first contact with that one", "swapped_contacts_on_told", 0.95),
    Target("cost of phrasings never heard (points)", "heldout_cost_points", 5, below=True),
    Target("RL in the dream (minutes by the clock, two runs side by side)", "dream_rl_minutes", 15, below=True),
    *(Target(f"ahead of {m} at equal steps (points)", f"ahead_of_{m}_equal_steps_points", 30) for m in MODEL_FREE),
)
"""The bounds of "Must show" that the summary has figures for."""


def targets(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Compares the summary with `TARGETS`."""
    rows = []
    for text, key, bound, below in TARGETS:
        value = summary.get(key)
        met = "–" if value is None else "yes" if (value <= bound if below else value >= bound) else "no"
        sign = "" if bound is True else "≤ " if below else "≥ "
        rows.append({"figure": text, "target": sign + _text(bound), "reached": _text(value), "met": met})
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3g}"

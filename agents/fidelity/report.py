"""Text of a fidelity report: targets, verdict, and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dream_env.agents.eval.statistics import markdown_table


class Target(NamedTuple):
    """Accepted range of a figure.

    Attributes:
        key: Name of the figure in the report.
        words: Description of the figure.
        bound: Largest accepted value, or smallest if `least` is set.
        least: Whether `bound` is the smallest accepted value.
        unit: Unit; figures in "%" are stored as fractions.
    """

    key: str
    words: str
    bound: float
    least: bool = False
    unit: str = ""

    def passes(self, value: float | None) -> bool | None:
        """Returns whether a figure is within its bound; None if it was not measured."""
        if value is None:
            return None
        return value >= self.bound if self.least else value <= self.bound

    def write(self, value: float | None) -> str:
        """Formats a figure with its unit."""
        if value is None:
            return "not measured"
        return f"{100 * value:.1f} %" if self.unit == "%" else f"{value:.2f} {self.unit}".strip()

    def limit(self) -> str:
        """Formats the bound."""
        return f"{'≥' if self.least else '≤'} {self.write(self.bound)}"


TASK_TARGETS = (
    Target("hand_cm_24", "hand after 24 steps", 1.0, unit="cm"),
    Target("object_cm_24_untouched", "untouched cubes after 24 steps", 2.0, unit="cm"),
    Target("object_cm_24_moved", "moved cubes after 24 steps", 3.0, unit="cm"),
    Target("held_auc_12", "held or not after 12 steps (AUC)", 0.95, least=True),
    Target("success_auc", "success of dreamt states (AUC)", 0.95, least=True),
    Target("success_fpr", "false successes among dreamt states", 0.02, unit="%"),
    Target("reward_spearman", "default reward follows progress (Spearman)", 0.85, least=True),
    Target("reward_pairwise", "wrong ends score worse (pairs)", 0.95, least=True, unit="%"),
)
OVERALL_TARGETS = (
    Target("disagreement_spearman", "disagreement follows the error (Spearman)", 0.6, least=True),
    Target("policy_spearman", "the dream ranks policies as physics does (Spearman)", 0.9, least=True),
    Target("policy_mae_points", "policies' success rates, dream against physics", 10.0, unit="points"),
)


def headline(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the figures that have targets and these targets, one row per figure, for pages that quote the report."""
    rows = []
    for target in TASK_TARGETS:
        cells = {task: target.write(figures[target.key]) for task, figures in report["tasks"].items()}
        rows.append({"figure": target.words, "asked": target.limit(), **cells, "all": ""})
    for target in OVERALL_TARGETS:
        cells = dict.fromkeys(report["tasks"], "")
        rows.append({"figure": target.words, "asked": target.limit(), **cells, "all": target.write(report[target.key])})
    return rows


def verdict(report: Mapping[str, Any]) -> str:
    """Returns the verdict: which tasks a policy may practice in this dream, and the reasons against the others."""
    trusted, reasons = [], []
    for task, figures in report["tasks"].items():
        if failed := _failed(TASK_TARGETS, figures):
            reasons.append(f"Not for {task}: {failed}.")
        else:
            trusted.append(task)
    failed = _failed(OVERALL_TARGETS, report)
    lead = f"Trust it for {' and '.join(trusted)}." if trusted else "Do not trust it for any of these tasks yet."
    missing = [t.words for t in OVERALL_TARGETS if report[t.key] is None]
    for target in TASK_TARGETS:
        if lacking := [task for task, figures in report["tasks"].items() if figures[target.key] is None]:
            missing.append(f"{target.words} ({', '.join(lacking)})")
    parts = [lead, *reasons]
    if failed:
        parts.append(f"Of all tasks: {failed}.")
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return " ".join(parts)


def _failed(targets: tuple[Target, ...], figures: Mapping[str, Any]) -> str:
    """Lists the figures that miss their bounds."""
    missed = [t for t in targets if t.passes(figures[t.key]) is False]
    return "; ".join(f"{t.words}: {t.write(figures[t.key])} (asked: {t.limit()})" for t in missed)


def markdown(report: Mapping[str, Any]) -> str:
    """Renders a report as Markdown."""
    tasks = report["tasks"]
    parts = [
        "# Fidelity of a world model",
        f"**{report['verdict']}**",
        f"World model `{report['world_model']}` ({report['checkpoint_sha256'][:12]}); {report['episodes']} held-out "
        f"episodes from seed {report['seeds']['episodes'][0]}, {report['policies']} policies.",
        f"    {report['command']}",
        "## Targets",
        _targets(report),
        "## Position and grasp",
        "Median errors (cm) read by a probe, 12 and 24 steps ahead; `encoded` is what encoder and probe lose without "
        "any dreaming. The AUC asks whether a cube is held; of closed hands, some of which missed, that is harder to "
        "tell. `physics_24` is physics itself after the same actions with every cube 3 mm elsewhere: contacts multiply "
        "what a picture cannot show, so no dream is much nearer than that.",
        _positions(tasks),
        "## Success",
        "`dream` counts episodes that only the dream solves when the same actions are replayed, `physics` those that "
        "only physics solves. Of success, `physics_24` is physics itself after the same actions with every cube 3 mm "
        "elsewhere: how much of it is noise that no dream can know.",
        _outcomes(tasks),
        _success({**tasks, "all": report["all"]}),
        "## Reward",
        "Rank correlation of an episode's return in the dream with its return in physics.",
        _rewards({**tasks, "all": report["all"]}),
        "## Disagreement",
        _disagreement(report["disagreement"]),
    ]
    if report["policies"]:
        words = (
            "Success in physics / in the dream (%), on the same starts. `confirmed`: the share of dreamt successes "
            "whose actions, carried out in physics open loop, succeed there as well; `confirmed_physics`: that "
            "of physics' own, repeated with every cube 3 mm elsewhere, about the most that a dream can reach."
        )
        parts += ["## Policies", words, _policies(report)]
    return "\n\n".join(parts) + "\n"


def _targets(report: Mapping[str, Any]) -> str:
    tasks = report["tasks"]
    rows = [[t.words, t.limit(), *(_mark(t, figures[t.key]) for figures in tasks.values()), ""] for t in TASK_TARGETS]
    rows += [[t.words, t.limit(), *[""] * len(tasks), _mark(t, report[t.key])] for t in OVERALL_TARGETS]
    return markdown_table(["figure", "target", *tasks, "overall"], rows)


def _mark(target: Target, value: float | None) -> str:
    sign = {True: "✓ ", False: "✗ ", None: ""}[target.passes(value)]
    return sign + ("–" if value is None else target.write(value))


def _positions(tasks: Mapping[str, Any]) -> str:
    names = ("hand", "untouched", "moved", "held_auc", "closed_auc", "cubes_moved", "held")
    rows = [
        [task, state, *(_figure(figures.get(name)) for name in names)]
        for task, part in tasks.items()
        for state, figures in _states(part)
    ]
    header = ["task", "states", "hand", "untouched cubes", "moved cubes", "held AUC", "of closed hands"]
    return markdown_table([*header, "cubes moved", "cubes held"], rows)


def _states(part: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    again = part["physics_again"]
    return [*part["positions"].items(), *([("physics_24", again)] if again else [])]


def _outcomes(tasks: Mapping[str, Any]) -> str:
    names = ("both", "neither", "dream", "physics", "false_positive_rate")
    rows = [
        [task, kind, *(_figure(figures[name]) for name in names)]
        for task, part in tasks.items()
        for kind, figures in part["outcomes"].items()
    ]
    return markdown_table(["task", "acting", "both", "neither", "dream", "physics", "false-positive rate"], rows)


def _success(parts: Mapping[str, Any]) -> str:
    names = ("auc", "false_positive_rate", "recall", "calibration_error", "states", "positives")
    rows = [
        [task, ahead, *(_figure(figures[name]) for name in names)]
        for task, part in parts.items()
        for ahead, figures in part["success"].items()
    ]
    header = ["task", "steps ahead", "AUC", "false positives", "recall", "calibration error", "states", "successes"]
    return markdown_table(header, rows)


def _rewards(parts: Mapping[str, Any]) -> str:
    variants = list(next(iter(parts.values()))["rewards"])
    return markdown_table(
        ["task", *variants], [[task, *(_figure(part["rewards"][v]) for v in variants)] for task, part in parts.items()]
    )


def _disagreement(disagreement: Mapping[str, Any]) -> str:
    rollouts = {name: figures for name, figures in disagreement.items() if name.startswith("rollout_")}
    ways = list(next(iter(rollouts.values())))
    rows = [[name.replace("_", " of ") + " steps", *(_figure(f[w]) for w in ways)] for name, f in rollouts.items()]
    outliers = disagreement["outliers"]
    names = list(next(iter(outliers.values())))
    return (
        f"Rank correlation with the error of single steps: {_figure(disagreement['step'])}; of whole rollouts, by how "
        f"disagreement is added up along them (best: {disagreement['best']}):\n\n"
        + markdown_table(["rollouts", *ways], rows)
        + "\n\nTold from ordinary steps (AUC), and flagged where 1 % of ordinary steps are:\n\n"
        + markdown_table(
            ["absurd", *names], [[name, *(_figure(figures[n]) for n in names)] for name, figures in outliers.items()]
        )
    )


def _policies(report: Mapping[str, Any]) -> str:
    parts = {**report["tasks"], "all": report["all"]}
    labels = [row["policy"] for row in report["all"]["policies"]["rows"]]
    rates = {
        (name, row["policy"]): f"{100 * row['physics']:.0f} / {100 * row['dream']:.0f}"
        for name, part in parts.items()
        for row in part["policies"]["rows"]
    }
    rows = [[label, *(rates.get((name, label), "–") for name in parts)] for label in labels]
    names = ("spearman", "pearson", "mae_points", "bias_points", "same", "confirmed", "confirmed_physics")
    summary = [[name, *(_figure(part["policies"][name]) for part in parts.values())] for name in names]
    return markdown_table(["policy", *parts], rows) + "\n\n" + markdown_table(["agreement", *parts], summary)


def _figure(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"

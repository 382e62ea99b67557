"""Ablates the world model: a table of fits that differ from a base in one choice each, at equal compute.

    python -m agents.studies.ablation --data DIR --autoencoder CHECKPOINT --out results

Every row is a call of `agents.fit` with the same CPU time, one thread, and the same training and held-out episodes.
Rows about the predictor share the auto-encoder of a checkpoint, its encoded episodes and one probe; rows about the
encoder train their own. Rows run in parallel. Running the same command again resumes an interrupted table: rows that
are in ablation.json with the same settings are not run again.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import command_line
from dream_env.agents.studies.ablation.arguments import QUESTIONS, Arguments
from dream_env.agents.studies.ablation.row import Job, run, share
from dream_env.files import nan_to_none, write_json, write_text
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

COLUMNS = {
    "hand (cm)": ("hand_12", "hand_24"),
    "untouched (cm)": ("untouched_12", "untouched_24"),
    "moved (cm)": ("moved_12", "moved_24"),
    "moved, by noise (cm)": ("moved_24_sampled",),
    "seen: untouched / moved (cm)": ("seen_untouched", "seen_moved"),
    "held AUC": ("held_auc_12",),
    "success AUC": ("success_auc_12",),
    "false alarms / recall": ("success_false_positives_12", "success_recall_12"),
    "latent error": ("latent_error_12", "latent_error_24"),
    "uncertainty": ("uncertainty",),
    "parameters, of predictor": ("parameters", "parameters_predictor"),
    "MMAC per step": ("mmac_per_step",),
    "steps / CPU s": ("steps_per_cpu_second",),
    "CPU min, of encoder": ("cpu_minutes", "cpu_minutes_encoder"),
    "episodes": ("train_episodes",),
}
"""Columns of the table, with the names of the figures in each."""

LEGEND = """\
Held-out episodes, one probe per encoder. Pairs `a / b` are 12 / 24 steps ahead unless the header says otherwise. Errors
of hand and cubes are medians; `moved` are cubes that were pushed or carried on the way; `by noise`: 24 steps ahead, of
one dream that samples where cubes go at every step instead of taking what is likeliest; `seen`: read off the encoded
pictures, without a dream. AUCs, false alarms and recall are 12 steps ahead, the latter two at a threshold set for 2 %
false alarms on the other half of the states. Latent error: squared error of the tokens over that of copying the first
frame. Uncertainty: rank correlation over episodes of the summed disagreement with the token error after 24 steps.
Parameters: of auto-encoder and of predictor with object dynamics. All rows of `encoder` train their own, in one time
budget together with the rest; all others share one.
"""


def ablate(args: Arguments) -> dict[str, Any]:
    """Runs the missing rows, and writes the table after every row.

    Returns:
        The contents of ablation.json: `rows` of the table, and `runs` by name with command, settings and figures.

    Raises:
        FileNotFoundError: If data or auto-encoder are missing.
        ValueError: If an argument is out of range.
    """
    file = args.out / "ablation.json"
    runs: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else {}
    asked = args.asked()
    encoder = checkpoint.sha256(args.autoencoder)
    cells = [(q, name, args.job(q, change, encoder)) for q, rows in QUESTIONS.items() for name, change in rows.items()]
    settings = {job.name: _settings(job, encoder) for _, _, job in cells}
    known = {name for name in settings if runs.get(name, {}).get("settings") == settings[name]}
    jobs = {job.name: job for question, _, job in cells if question in asked and job.name not in known}
    missing = list(jobs.values())
    missing.sort(key=lambda job: job.fitting.autoencoder is not None)  # the long ones first
    if sharing := [job for job in missing if job.fitting.autoencoder]:
        share(sharing[0])

    def write() -> dict[str, Any]:
        rows = [
            {"question": question, "configuration": name, "run": job.name} | runs[job.name]["figures"]
            for question, name, job in cells
            if job.name in known
        ]
        report = {
            "command": command_line("studies.ablation", args),
            "autoencoder_sha256": encoder,
            "rows": rows,
            "runs": runs,
        }
        write_text(args.out / "ablation.md", markdown(report))
        write_json(file, report)
        return report

    report = write()
    results = pool.imap(run, missing, "ray" if args.ray else args.workers) if missing else ()
    for name, figures in progress_bar(results, "rows", len(missing), unit="row"):
        command = "python -m agents.fit " + shlex.join(jobs[name].words)
        runs[name] = {"command": command, "settings": settings[name], "figures": nan_to_none(figures, digits=4)}
        known.add(name)
        report = write()
    return report


def _settings(job: Job, encoder: str) -> dict[str, Any]:
    """Returns the settings that determine the figures of a row, as plain JSON values."""
    shared = encoder if job.fitting.autoencoder else None
    values = job.fitting.settings() | {"autoencoder": shared, "probe_updates": job.probe_updates}
    return dict(json.loads(json.dumps(values)))


def markdown(report: Mapping[str, Any]) -> str:
    """Renders the table, the legend of its columns, and the command of every row as Markdown."""

    def cell(row: Mapping[str, Any], names: Sequence[str]) -> str:
        return " / ".join(_figure(row[name]) for name in names)

    lines, last = [], None
    for row in report["rows"]:
        question = row["question"] if row["question"] != last else ""
        last = row["question"]
        lines.append([question, row["configuration"], *(cell(row, names) for names in COLUMNS.values())])
    parts = [
        "# Ablation of the world model",
        LEGEND.strip(),
        markdown_table(["question", "configuration", *COLUMNS], lines),
    ]
    commands: dict[str, list[str]] = {row["run"]: [] for row in report["rows"]}
    for row in report["rows"]:
        commands[row["run"]].append(f"{row['question']}: {row['configuration']}")
    parts += ["## Commands", f"The table: `{report['command']}`. Its rows:"]
    parts.append("\n".join(f"- {'; '.join(names)}: `{report['runs'][n]['command']}`" for n, names in commands.items()))
    return "\n\n".join(parts) + "\n"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main(args: Arguments) -> None:
    """Runs the command."""
    print(markdown(ablate(args)))
    print(f"Table: {(args.out / 'ablation.md').resolve()}")

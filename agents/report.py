"""Writes the figures in Markdown pages from result files, so that no figure is typed by hand.

    python -m agents.report            # fills README.md and pages in docs/ from results/*.json
    python -m agents.report --check    # fails if one of the pages is out of date

A block `<!-- results:NAME -->...<!-- /results -->` is filled from `results/NAME.json`. An evaluation is written as its
tables, a record or a list of records as one table, a single figure in line. `results:NAME.key.key` selects a part of
the file. `results:NAME.TASK` selects one task of an evaluation; the task `all` stands for all tasks together. With a
`%` at the end, `results:NAME.key%`, a fraction is written as a percentage.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.eval.results import tables
from dream_env.agents.eval.statistics import markdown_table
from dream_env.files import write_text

BLOCK = re.compile(r"(<!-- results:(\S+) -->).*?(<!-- /results -->)", re.DOTALL)


def render(value: Any) -> str:
    """Renders a part of a result file as Markdown: a single figure in line, everything else as a table.

    A table of records leaves out fields that are lists or dicts.

    Raises:
        ValueError: If the value is nested deeper than a list of records.
    """
    if _is_evaluation(value):
        return "\n" + tables(value)
    if isinstance(value, dict):
        return "\n" + markdown_table(["", ""], [[k, _figure(v)] for k, v in value.items()]) + "\n"
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = [key for key, part in value[0].items() if not isinstance(part, dict | list)]
        rows = [[_figure(row.get(key)) for key in columns] for row in value]
        return "\n" + markdown_table([key.replace("_", " ") for key in columns], rows) + "\n"
    return _figure(value)


def _is_evaluation(value: Any) -> bool:
    return isinstance(value, dict) and {"rows", "comparisons"} <= set(value)


def _parts(value: Any) -> dict[str, Any]:
    """Returns the parts of a result by name: its keys and, for an evaluation, its tasks; of a list, its indices."""
    if isinstance(value, list):
        return {str(index): part for index, part in enumerate(value)}
    if not isinstance(value, dict):
        return {}
    tasks = dict.fromkeys(row["task"] for row in value["rows"]) if _is_evaluation(value) else {}
    both = ("rows", "comparisons")
    return value | {task: {name: [x for x in value[name] if x["task"] == task] for name in both} for task in tasks}


def _figure(value: Any) -> str:
    """Formats one figure: fractions with three significant digits, thousands separators, and a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, dict | list):
        raise ValueError(f"{value} is no figure; accepted: a number, a text, a record or a list of records")
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def fill(text: str, results: Path) -> str:
    """Returns the page with every block filled from its result file.

    Args:
        text: Markdown with blocks.
        results: Folder of the result files.

    Raises:
        FileNotFoundError: If a block names a file that does not exist.
        ValueError: If a block names a part that its file does not have.
    """

    def block(match: re.Match[str]) -> str:
        name, *keys = match[2].removesuffix("%").split(".")
        path = results / f"{name}.json"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in results.glob("*.json"))) or "none"
            raise FileNotFoundError(f"block {match[2]!r}: no {path}; result files there: {there}")
        value = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            parts = _parts(value)
            if key not in parts:
                raise ValueError(f"block {match[2]!r}: {path} has no {key!r}; it has: {', '.join(parts) or 'none'}")
            value = parts[key]
        return match[1] + (f"{100 * value:.0f} %" if match[2].endswith("%") else render(value)) + match[3]

    return BLOCK.sub(block, text)


def pages(root: Path = Path()) -> tuple[Path, ...]:
    """Returns `README.md` and the pages in `docs/` of a folder, as far as they contain blocks.

    Raises:
        FileNotFoundError: If there are none.
    """
    there = [path for path in (root / "README.md", *sorted(root.glob("docs/*.md"))) if path.is_file()]
    if found := tuple(path for path in there if BLOCK.search(path.read_text(encoding="utf-8"))):
        return found
    raise FileNotFoundError(f"{root.resolve()} has no README.md or docs/*.md with blocks; accepted: --page FILE")


@dataclass(frozen=True)
class Arguments:
    """Writes the figures in Markdown pages from result files."""

    page: tuple[Path, ...] = ()
    """Pages to fill: Markdown files with blocks `<!-- results:NAME -->...<!-- /results -->`. By default README.md and
    all pages in docs/ that have such blocks."""
    results: Path = Path("results")
    """Folder of the result files, NAME.json."""
    check: bool = False
    """Changes nothing, and fails if a page is out of date."""


def main(args: Arguments) -> None:
    """Runs the command."""
    for page in args.page or pages():
        old = page.read_text(encoding="utf-8")
        new = fill(old, args.results)
        if args.check and new != old:
            raise SystemExit(f"{page} is out of date: run python -m agents.report")
        if new != old:
            write_text(page, new)
        print(f"{page}: {len(BLOCK.findall(new))} blocks {'checked' if args.check else 'written'}")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("report")

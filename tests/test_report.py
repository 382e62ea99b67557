"""Pages with figures: `agents.report` finds, checks and fills them."""

from pathlib import Path

import pytest

from dream_env.agents import report


def test_check_fails_for_a_page_out_of_date(tmp_path):
    (tmp_path / "run.json").write_text('{"x": 2}')
    page = tmp_path / "README.md"
    page.write_text("<!-- results:run.x -->1<!-- /results -->")
    with pytest.raises(SystemExit, match="out of date"):
        report.main(report.Arguments((page,), tmp_path, check=True))
    report.main(report.Arguments((page,), tmp_path))
    report.main(report.Arguments((page,), tmp_path, check=True))


def test_pages_with_blocks_need_not_be_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"docs/\*\.md with blocks; accepted: --page FILE"):
        report.main(report.Arguments())
    Path("docs").mkdir()
    Path("results").mkdir()
    Path("results/run.json").write_text('{"x": 2}')
    page, plain = Path("docs/new.md"), Path("docs/plain.md")
    page.write_text("<!-- results:run.x -->1<!-- /results -->")
    plain.write_text("no figures")
    report.main(report.Arguments())
    assert page.read_text() == "<!-- results:run.x -->2<!-- /results -->" and plain.read_text() == "no figures"

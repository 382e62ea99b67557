"""README and docs/: every block runs or is accepted, every link leads somewhere, every environment has a card."""

import os
import re
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import gymnasium as gym
import pytest
import test_vmc

from dream_env.agents import report
from dream_env.agents.policies import registry
from dream_env.agents.run import cli
from dream_env.initial_states import FILE
from dream_env.nicol.dream import NicoLDreamBatch
from dream_env.nicol.episode_start import OPTIONS
from dream_env.nicol.tasks import TASKS
from dream_env.world_models import checkpoint

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
LINKING = {
    name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "results/README.md", "assets/README.md")
} | PAGES
BLOCKS = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = "export git hf mkdocs pip pre-commit python python3.11 ruff tensorboard torchrun".split()
"""Programs of the pages beside the package's own commands; lines of these are not run."""
SHORTER = (("learn(8000)", "learn(520)"), ("learn(1_536)", "learn(384)"), ("num_envs=64", "num_envs=16"))
"""What is done less often in the tests than on the pages."""
ELSEWHERE = {"docs/your_robot.md": "tests/test_your_robot.py"}
"""Pages whose blocks take data and policies of their own, and the tests that make these and run them."""
RUNNER = """
import sys
from pathlib import Path
for place in sys.argv[1:]:
    exec(compile(Path(place).read_text(), place, "exec"), {"__name__": "__main__"})
"""


def python_blocks(page):
    return [block for language, block in BLOCKS.findall(PAGES[page]) if language == "python"]


def command_lines(page):
    """Returns the commands of a page's shell blocks, as lists of words."""
    text = "\n".join(block for language, block in BLOCKS.findall(PAGES[page]) if language in ("bash", "sh"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    parts = (part for line in lines for part in re.split(r"&&|;|>", line.partition(" #")[0]))
    commands = (shlex.split(part, comments=True) for part in parts)
    return [words for words in commands if words]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which earlier commands of the pages have been run, in seconds instead of minutes."""
    from dream_env.agents import collect
    from dream_env.agents.fit.dynamics import command as fit

    root = tmp_path_factory.mktemp("pages")
    data, model = root / "data/pendulum", root / "runs/pendulum_model"
    words = "--env Pendulum-v1 --mix random:0.5,held:0.5 --episodes 6 --workers 1 --out".split()
    collect.main(cli.parse("collect", [*words, str(data)]))
    fit.main(fit.Arguments(data=(data,), out=model, updates=20, batch=8))
    game = test_vmc.made()  # random weights: what a page does with it is tested, not what it dreams
    checkpoint.save(game, root / "runs/takecover", "card")
    test_vmc.starts(game).save(root / "runs/takecover" / FILE)
    return root


def test_pages_with_tests_of_their_own_are_tested_there():
    assert [page for page, test in ELSEWHERE.items() if Path(page).name not in (ROOT / test).read_text()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page) and page not in ELSEWHERE])
def test_python_blocks_run(page, prepared, tmp_path):
    places = []
    for number, block in enumerate(python_blocks(page), 1):
        for long, short in SHORTER:
            block = block.replace(long, short)
        places.append(tmp_path / f"{Path(page).stem}_{number}.py")
        places[-1].write_text(block)
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", RUNNER, *map(str, places)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=prepared, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)])
def test_command_lines_are_accepted(page, monkeypatch, prepared):
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is asked
    for words in command_lines(page):
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        program, *rest = words
        if program == "dream-env":
            assert cli.parse(rest[0], rest[1:]), words
        elif "-m" in words and words[words.index("-m") + 1].startswith("agents."):
            module = words.index("-m") + 1
            assert cli.parse(words[module].removeprefix("agents."), words[module + 1 :]), words
        else:
            own = program.startswith((".ci/", ".venv/")) and (program.startswith(".venv") or (ROOT / program).is_file())
            assert own or program in (".", "cd", *PROGRAMS), words


def test_pages_name_only_commands_that_exist():
    named = set(re.findall(r"(?:python -m agents\.|dream-env )([a-z][\w.]*\w)", "".join(PAGES.values())))
    assert {"demo", "share"} <= named
    assert named - {*cli.commands()} == set()


@lru_cache
def anchors(path):
    """Returns the anchors of a page's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", LINKING[page], flags=re.MULTILINE | re.DOTALL)
    lost = []
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_option_of_a_reset_is_named():
    _, listed = PAGES["docs/environments.md"].split("`reset(options=...)` accepts:")
    listed = listed.split("The same seed")[0]
    assert [name for name in (*NicoLDreamBatch.OPTIONS, *OPTIONS) if f"`{name}`" not in listed] == []


def test_every_environment_has_a_card():
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    sys.path.insert(0, str(ROOT / "docs"))
    import hooks

    entries = {name: str(spec.entry_point) for name, spec in gym.registry.items()}
    # Studies register environments of their own where they are imported.
    ours = {name for name, entry in entries.items() if entry.startswith("dream_env.") and ".studies." not in entry}
    assert {*hooks.CLASSES} == ours
    made = dict(hooks.cards())
    assert {*made} == ours | {"tasks"}
    assert [task for task in TASKS if f"\n## {task}\n" not in made["tasks"]] == []
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (*(f"cards/{name}.md" for name in made), *(f"reference/{name}.md" for name in hooks.REFERENCE)):
        assert page in navigation
    modules = [module for _, listed in hooks.REFERENCE.values() for module in listed]
    assert [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


def test_pages_that_load_from_elsewhere_are_refused():
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    sys.path.insert(0, str(ROOT / "docs"))
    from types import SimpleNamespace

    import hooks
    from mkdocs.exceptions import PluginError

    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert hooks.on_post_page('<a href="https://example.org">a link</a><img src="loop.svg">', page, None)
    for line in ('<script src="https://cdn.example/x.js">', '<link rel="stylesheet" href="//fonts.example/y.css">'):
        with pytest.raises(PluginError, match="loads something from elsewhere"):
            hooks.on_post_page(line, page, None)


def test_former_names_of_policies_are_taught_nowhere():
    sources = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("agents/*/arguments.py")]
    sources += ROOT.glob("agents/*/command.py")
    for former in registry.ALIASES:
        taught = re.compile(rf"(--\w+|default,?|=) ?['\"]?{former}\b")
        assert [path.name for path in sources if taught.search(path.read_text(encoding="utf-8"))] == []


def test_figures_of_every_page_are_written_by_the_report():
    marks = {name: len(re.findall(r"<!-- results:\S+ -->", text)) for name, text in PAGES.items()}
    found = {path.relative_to(ROOT).as_posix() for path in report.pages(ROOT)}
    assert found == {name for name, count in marks.items() if count} and "docs/results.md" in found
    assert {name: len(report.BLOCK.findall(PAGES[name])) for name in marks} == marks, "a block is not closed"


def test_every_result_file_is_named_with_its_command():
    text = LINKING["results/README.md"]
    files = {path.name for path in (ROOT / "results").iterdir()} - {"README.md"}
    assert [name for name in sorted(files) if f"`{name}`" not in text] == []
    assert "|---" not in text, "commands and caveats do not fit into cells of a table"

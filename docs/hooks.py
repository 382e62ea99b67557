"""Adds to the site what is not in docs/: cards of environments and tasks, the reference, and files of the repository.

Pages in docs/ are also read on code hosts, so they link to files of the repository by relative paths. On the site these
files are pages under repo/. A link to anything else that is not a page, such as a source file, is replaced by its text.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
SHOWN = ("results/*.md", "results/*.png", "results/*.gif", "assets/README.md", "assets/*/*.png", "C*.md")
"""Files of the repository that are shown on the site under repo/."""
REFERENCE = {
    "spec": ("World specs", ["dream_env.spec"]),
    "dream": ("Dreams", ["dream_env.dream", "dream_env.dream_config", "dream_env.rewards", "dream_env.observations"]),
    "tensors": ("Tensors", ["dream_env.tensors", "dream_env.engine"]),
    "wrappers": ("Wrappers", ["dream_env.wrappers"]),
    "initial_states": ("Initial states", ["dream_env.initial_states"]),
    "world_models": (
        "World models",
        [f"dream_env.world_models.{name}" for name in ("protocol", "checkpoint", "dynamics", "slots.model", "vmc")],
    ),
    "data": ("Episodes", ["dream_env.data.episode", "dream_env.data.episodes", "dream_env.data.writer"]),
    "hub": ("The Hub", ["dream_env.hub.names", "dream_env.hub.pull", "dream_env.hub.push"]),
    "policies": ("Policies", ["dream_env.agents.policies.protocol", "dream_env.agents.policies.registry"]),
    "planners": ("Planners", ["dream_env.agents.planners.problem", "dream_env.agents.planners.planner"]),
    "adapters": (
        "Adapters",
        ["dream_env.adapters.sb3", "dream_env.adapters.skrl", "dream_env.adapters.lerobot"],
    ),
}
"""Pages of the reference: title and modules."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")
LOADED = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+stylesheet[^>]+href=\"(?:https?:)?//")
CLASSES = {
    "Dream-v0": "dream_env.dream.DreamEnv",
    "NicoLDream-v0": "dream_env.nicol.dream.NicoLDreamEnv",
    "NicoLReal-v0": "dream_env.nicol.env.NicoLRealEnv",
    "NicoLBothArms-v0": "dream_env.nicol.env.NicoLRealEnv",
}


def on_config(config: Any) -> Any:
    """Removes missing pages from the navigation, and adds pages that it does not name to the guides."""
    sys.path.insert(0, str(ROOT))
    named = re.findall(r"[\w/.-]+\.md", str(config.nav))
    (guides,) = (entry["Guides"] for entry in config.nav if "Guides" in entry)
    guides += sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)

    def there(entry: Any) -> bool:
        place = next(iter(entry.values())) if isinstance(entry, dict) else entry
        return not isinstance(place, str) or "/" in place or (ROOT / "docs" / place).is_file()

    for section in [config.nav, *(next(iter(entry.values())) for entry in config.nav)]:
        if isinstance(section, list):
            section[:] = filter(there, section)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds files of the repository, the cards and the reference."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, f"repo/{path.relative_to(ROOT).as_posix()}", abs_src_path=str(path)))
    pages = {f"cards/{name}.md": text for name, text in cards()}
    for name, (title, modules) in REFERENCE.items():
        parts = "\n".join(
            f"\n## `{module}`\n\n::: {module}\n    options:\n      heading_level: 3\n" for module in modules
        )
        pages[f"reference/{name}.md"] = f"# {title}\n{parts}"
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites links to files of the repository to their place on the site."""
    uri = page.file.src_uri
    source = uri.removeprefix("repo/") if uri.startswith("repo/") else f"docs/{uri}"
    known = {file.src_uri for file in files}

    def turned(found: re.Match[str]) -> str:
        picture, text, link = found.groups()
        path, hash, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(source), path))
        place = target.removeprefix("docs/") if target.startswith("docs/") else f"repo/{target}"
        if place not in known:
            return "" if picture else text
        return f"{picture}[{text}]({os.path.relpath(place, os.path.dirname(uri) or '.')}{hash}{anchor})"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [LINK.sub(turned, part) for part in parts[::2]]
    return "".join(parts)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Raises an error if a page loads something from another host."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {output[found.start() :][:120]}")
    return output


def cards() -> Iterator[tuple[str, str]]:
    """Yields a card for every environment and one for all tasks, as name and Markdown."""
    import gymnasium as gym

    import dream_env  # noqa: F401  registers the ids
    from dream_env.nicol.tasks import TASKS

    for name, place in CLASSES.items():
        env = gym.make(name)
        rows = {
            "Import": f'`gymnasium.make("dream_env:{name}")`',
            "Action space": f"`{env.action_space}`",
            "Observation space": "<br>".join(f"`{key}`: `{box}`" for key, box in env.observation_space.items()),
            "Steps per episode": getattr(env.spec, "max_episode_steps", None) or "the world's horizon",
            "Vectorized": f'`gymnasium.make_vec("dream_env:{name}", num_envs=64)`',
        }
        env.close()
        table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
        yield name, f"# {name}\n\n| | |\n|---|---|\n{table}\n\n::: {place}\n    options:\n      members: false\n"
    parts = ["# NICOL's tasks\n\nAn instruction names one or two objects. Each task has several phrasings.\n"]
    for task in TASKS.values():
        noun = task.grammar.nouns.train[0]
        words = dict(color="red", object=noun, other_color="blue", other_object=noun)
        sentence, *more = (template.format(**words) for template in task.grammar.templates)
        held_out = [template.format(**words) for template in task.grammar.held_out]
        parts.append(f"## {task.name}\n\n{inspect.getdoc(type(task))}\n\n| | |\n|---|---|")
        parts.append(f'| instruction | "{sentence}", and {len(more)} more |')
        if held_out:
            parts.append(f'| held out for evaluation | "{held_out[0]}", and {len(held_out) - 1} more |')
        if horizon := getattr(task, "horizon", None):
            parts.append(f"| steps per episode | {horizon} |")
        success = " ".join((inspect.getdoc(task.condition) or "").split()).removeprefix("Returns whether ")
        parts.append(f"| success | {success} |")
        parts.append(f"| scripted expert | {' '.join((inspect.getdoc(task.expert) or '').split())} |\n")
    yield "tasks", "\n".join(parts)

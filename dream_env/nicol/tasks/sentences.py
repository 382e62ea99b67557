"""Infers the task of a free-form sentence from the most similar known phrasing, or raises an error that suggests one.

Words for colors and objects are removed before the comparison. They do not depend on the task, and would make any
sentence about a cube similar to a known instruction.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from dream_env.checks import shown
from dream_env.language import embed, words
from dream_env.nicol.language import COLOR_WORDS, OBJECT_WORDS, colors_of
from dream_env.nicol.tasks.registry import STANDARD, TASKS

LEAST_SIMILARITY = 0.5
"""Smallest cosine similarity to the nearest known phrasing that is accepted. Held-out phrasings have 0.495 to 0.96 to
those of the training split; "throw away the red cube" and "sing a song about a red rose" have 0.50, "paint the red
cube" 0.15."""
NEGATIONS = frozenset(
    "not never no dont cannot without avoid nothing neither nor none except refrain stop cease ignore skip".split()
)
"""Words that negate a command; they hardly change the sentence embedding."""
SEQUENCE = frozenset("then before after afterwards afterward while".split())
"""Words that join two commands."""
_NOUNS = (OBJECT_WORDS, *(task.grammar.nouns for task in TASKS.values()))
_THINGS = {word for group in (*COLOR_WORDS.values(), *_NOUNS) for word in group.of("test")}


def task_of(sentence: str) -> str:
    """Returns the task that a sentence asks for.

    Args:
        sentence: English that names the color of one cube (of two, where a task's grammar names two).

    Returns:
        Name of the task of the most similar known phrasing.

    Raises:
        ValueError: If the sentence names no color or the wrong number of colors, contains a negation, gives two
            commands, or is not similar to any known phrasing; the message then shows the nearest one.
    """
    named, tasks = len(colors_of(sentence)), _about(sentence)
    phrasings, verbs = _known(tasks), _own_verbs(tasks)
    if (known := _pattern(sentence)) in phrasings and TASKS[phrasings[known]].grammar.cubes == named:
        return phrasings[known]
    said = words(sentence)
    negated = sorted(NEGATIONS.intersection(said)) or re.findall(r"\w+n['’´`]t\b", sentence.lower())
    if negated:
        raise ValueError(f"sentence={shown(sentence)} says what not to do ({negated[0]!r}); accepted: what to do")
    for task in (name for name, task_verbs in verbs.items() if task_verbs.intersection(said)):
        if (cubes := TASKS[task].grammar.cubes) != named:
            raise ValueError(f"sentence={shown(sentence)} names {named} colors; accepted by {task!r}: {cubes}")
    fitting = [pattern for pattern in phrasings if TASKS[phrasings[pattern]].grammar.cubes == named]
    if not fitting:
        raise ValueError(f"sentence={shown(sentence)} names {named} colors; accepted: one, as in {_examples(sentence)}")
    _check_one_command(sentence, said, tasks)
    left = _pattern(sentence)
    try:
        similarity = np.stack([_unit(one) for one in fitting]) @ _unit(left)
    except ValueError:  # no known word is left
        raise ValueError(
            f"sentence={shown(sentence)} does not say what to do; accepted: sentences like {_examples(sentence)}"
        ) from None
    best = int(similarity.argmax())
    if similarity[best] < LEAST_SIMILARITY:
        raise ValueError(
            f"sentence={shown(sentence)} is too far from every known one; the nearest is "
            f"{_example(phrasings, fitting[best], sentence)!r}; accepted: sentences like {_examples(sentence)}"
        )
    return phrasings[fitting[best]]


def _about(sentence: str) -> tuple[str, ...]:
    """Returns the tasks that a sentence may refer to: those whose objects it names, else all tasks about cubes."""
    said = set(words(sentence))
    nouns = {name: task.grammar.nouns for name, task in TASKS.items()}
    named = tuple(name for name, each in nouns.items() if each != OBJECT_WORDS and said.intersection(each.of("test")))
    return named or tuple(name for name, each in nouns.items() if each == OBJECT_WORDS)


def _usual(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the standard tasks among `tasks`, or all of `tasks` if none is standard."""
    return tuple(name for name in STANDARD if name in tasks) or tasks


def _check_one_command(sentence: str, said: list[str], tasks: tuple[str, ...]) -> None:
    """Raises ValueError if a sentence gives two commands."""
    asked = [task for task, verbs in _own_verbs(tasks).items() if verbs.intersection(said)]
    known = _known(tasks).items()
    joined = {word for one, _ in known for word in _after_and(one.split())}
    vocabulary = {word for one, task in known if task in _usual(tasks) for word in one.split()} | joined | _THINGS
    after = _after_and(said)
    if len(asked) > 1 or SEQUENCE.intersection(said) or not vocabulary.issuperset(after):
        why = f"({' and '.join(asked)}) " if len(asked) > 1 else ""
        raise ValueError(f"sentence={shown(sentence)} gives two commands {why}in one; accepted: one command")


def _after_and(said: list[str]) -> list[str]:
    return [word for joint, word in zip(said, said[1:], strict=False) if joint == "and"]


def _pattern(sentence: str) -> str:
    """Returns a sentence without its words for colors and objects."""
    return " ".join(word for word in words(sentence) if word not in _THINGS)


@lru_cache(maxsize=4096)
def _unit(pattern: str) -> np.ndarray:
    vector = embed(pattern)
    return vector / np.linalg.norm(vector)


@lru_cache(maxsize=8)
def _known(tasks: tuple[str, ...]) -> dict[str, str]:
    """Returns a dict from every known phrasing of the given tasks, as a `_pattern`, to its task."""
    texts = {name: (*TASKS[name].grammar.templates, *TASKS[name].grammar.held_out) for name in tasks}
    return {_pattern(re.sub("{.*?}", "", text)): name for name, each in texts.items() for text in each}


@lru_cache(maxsize=8)
def _own_verbs(tasks: tuple[str, ...]) -> dict[str, set[str]]:
    """Returns for each of the given tasks its verbs that do not occur in sentences of the other tasks."""
    texts = {name: [pattern.split() for pattern, task in _known(tasks).items() if task == name] for name in tasks}
    verbs = {
        name: {text[i] for text in each for i in range(len(text)) if i == 0 or text[i - 1] == "and"}
        for name, each in texts.items()
    }
    others = {n: {word for m in tasks if m != n for text in texts[m] for word in text} for n in tasks}
    return {name: own - others[name] for name, own in verbs.items()}


def _example(phrasings: dict[str, str], pattern: str, sentence: str) -> str:
    """Returns the known phrasing with a pattern, filled with the colors that a sentence names."""
    grammar, colors = TASKS[phrasings[pattern]].grammar, colors_of(sentence)
    noun = grammar.nouns.train[0]
    texts = (*grammar.templates, *grammar.held_out)
    text = next(one for one in texts if _pattern(re.sub("{.*?}", "", one)) == pattern)
    return text.format(color=colors[0], object=noun, other_color=colors[-1], other_object=noun)


def _examples(sentence: str) -> str:
    """Returns one known sentence per task that the sentence may refer to, with the first color that it names."""
    color = colors_of(sentence)[0]
    return ", ".join(repr(TASKS[name].grammar.sentences(color)[0]) for name in _usual(_about(sentence)))

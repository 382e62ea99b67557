"""Hindsight relabeling: other questions about recorded frames, with true answers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dream_env.agents.fit.state_grounded.hindsight import Hindsight
from dream_env.language import embed
from dream_env.nicol.constants import normalize
from dream_env.nicol.language import COLORS, color_of
from dream_env.nicol.tasks import STANDARD, TASKS


@pytest.fixture
def episodes() -> SimpleNamespace:
    """One frame: the first cube is held up, the second lies beyond the line, the hand hovers over neither."""
    objects = np.array([[0.50, -0.20, 0.95], [0.68, -0.10, 0.825], [0.45, -0.30, 0.825]], np.float32)
    hand = np.array([0.50, -0.20, 0.96], np.float32)
    return SimpleNamespace(
        objects=objects[None, None],
        hand=hand[None, None],
        proprio=normalize(np.array([*hand, 1.0], np.float32))[None, None],
        colors=np.array([[0, 1, 2]]),
        target=np.array([2]),
        task=np.array(["lift"]),
        condition=np.array([[False]]),
    )


def test_conditions_of_every_task_and_cube(episodes: SimpleNamespace) -> None:
    holds = Hindsight(episodes).conditions[0, 0]
    names = list(STANDARD)
    assert holds[names.index("lift")].tolist() == [True, False, False]
    assert holds[names.index("push")].tolist() == [False, True, False]
    assert not holds[names.index("reach")].any()


def test_questions_are_answered_truly(episodes: SimpleNamespace) -> None:
    hindsight = Hindsight(episodes)
    rows = torch.zeros(400, dtype=torch.long)
    words, answers = hindsight.ask(rows, rows, rows, torch.Generator().manual_seed(0))
    meaning = {
        embed(sentence).tobytes(): (name, color_of(sentence))
        for name, task in TASKS.items()
        if name in STANDARD
        for color in COLORS
        for sentence in task.grammar.sentences(color)
    }
    asked = [meaning[row.numpy().tobytes()] for row in words]
    true = {("lift", "red"), ("push", "green")}
    assert answers.tolist() == [float(question in true) for question in asked]
    own = np.mean([question == ("lift", "blue") for question in asked])
    assert 0.45 < own < 0.67, "about half of the questions are the recorded one"
    assert len(set(asked)) == 9


def test_recolored_episodes_are_asked_about_by_the_new_color(episodes: SimpleNamespace) -> None:
    hindsight = Hindsight(episodes)
    rows = torch.zeros(200, dtype=torch.long)
    plain, answers = hindsight.ask(rows, rows, rows, torch.Generator().manual_seed(0))
    moved, same = hindsight.ask(rows, rows, rows + 1, torch.Generator().manual_seed(0))
    colors = list(COLORS)
    sentences = [sentence for task in STANDARD for color in COLORS for sentence in TASKS[task].grammar.sentences(color)]
    names = {embed(sentence).tobytes(): sentence for sentence in sentences}
    for before, after in zip(plain, moved, strict=True):
        was, now = (color_of(names[row.numpy().tobytes()]) for row in (before, after))
        assert colors.index(now) == (colors.index(was) + 1) % len(colors)
    assert torch.equal(answers, same), "what is so does not depend on the color"

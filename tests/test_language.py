"""Instructions: colors, grammar, sentence embedding, and the command that builds the word table."""

import json
import subprocess
import sys
import zipfile
from itertools import combinations

import numpy as np
import pytest
from safetensors.numpy import save

from dream_env import language
from dream_env.agents.nicol.sentences import sentences
from dream_env.agents.studies import phrasings
from dream_env.assets.language import make_words as words
from dream_env.language import embed
from dream_env.nicol import language as nicol_language
from dream_env.nicol.language import COLORS, Grammar, color_of
from dream_env.nicol.tasks import STANDARD, TASKS

GRAMMARS = tuple(TASKS[name].grammar for name in STANDARD)


def labelled(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns embeddings, tasks and colors of all sentences of a split."""
    rows = [
        (embed(sentence), task, color)
        for task, grammar in enumerate(GRAMMARS)
        for color, name in enumerate(COLORS)
        for sentence in grammar.sentences(name, split)
    ]
    embeddings, tasks, colors = zip(*rows, strict=True)
    return np.stack(embeddings), np.array(tasks), np.array(colors)


def classify(inputs: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Fits a logistic regression by gradient descent and returns its labels of `held_out`."""
    inputs, held_out = (np.c_[x, np.ones(len(x))] for x in (inputs, held_out))
    weights = np.zeros((inputs.shape[1], labels.max() + 1))
    targets = np.eye(labels.max() + 1)[labels]
    for _ in range(1000):
        scores = np.exp(inputs @ weights)
        error = scores / scores.sum(1, keepdims=True) - targets
        weights -= inputs.T @ error / len(inputs) + 1e-3 * weights
    return (held_out @ weights).argmax(1)


def test_task_and_color_are_read_off_held_out_phrasings() -> None:
    inputs, tasks, colors = labelled("train")
    held_out, held_out_tasks, held_out_colors = labelled("test")
    assert (classify(inputs, tasks, held_out) == held_out_tasks).mean() >= 0.97
    assert (classify(inputs, colors, held_out) == held_out_colors).mean() >= 0.97


def test_nearest_sentences_mean_the_same(tmp_path, monkeypatch, capsys) -> None:
    phrasings.main(phrasings.Arguments(out=tmp_path / "language.json"))
    report = json.loads((tmp_path / "language.json").read_text())
    ours, baseline = report["word vectors"], report["hashed bag of words"]
    assert ours["all"]["both"] >= 0.97 and ours["new"]["color"] >= 0.95
    assert baseline["all"]["both"] < ours["all"]["both"] - 0.2
    assert "99.4 %" in capsys.readouterr().out


def test_understanding_is_counted_right() -> None:
    known = {s.words: s for s in sentences("train") + sentences("test")}

    def colorblind(sentence: str) -> np.ndarray:
        return np.eye(3)[STANDARD.index(known[sentence].task)]

    told = phrasings.understood(colorblind)
    red = np.mean([s.color == "red" for s in sentences("test")])  # the first of the nearest
    assert told["all"]["task"] == 1 and told["all"]["color"] == told["all"]["both"] == red
    assert told["known"]["sentences"] + told["new"]["sentences"] == told["all"]["sentences"] == 1008


def test_embeddings_use_their_range() -> None:
    embeddings = labelled("train")[0]
    assert 0.3 < embeddings.std(0).mean() < 0.5
    assert (np.abs(embeddings) == 1).mean() < 0.03


def test_embedding_is_a_fixed_vector_of_the_contract() -> None:
    vector = embed("Lift the red cube!")
    assert vector.shape == (64,) and vector.dtype == np.float32
    assert np.abs(vector).max() <= 1 and np.isfinite(vector).all()
    np.testing.assert_array_equal(vector, embed("lift, the red cube"))
    np.testing.assert_array_equal(vector, embed("lift the red qzxv cube"))
    assert np.abs(vector - embed("lift the blue cube")).mean() > 0.1
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0


def test_function_words_weigh_less() -> None:
    base = embed("push red cube")
    assert base @ embed("push the red cube") > base @ embed("push line red cube")


@pytest.mark.parametrize("sentence", ["", "  ?!", "qzxv wvkq", "12 34"])
def test_sentence_without_known_words_is_named(sentence: str) -> None:
    with pytest.raises(ValueError, match="has no known word") as error:
        embed(sentence)
    assert repr(sentence) in str(error.value)


def test_unknown_words_count_where_they_were_recorded() -> None:
    assert language.words("Hebe den Würfel, 3-mal!") == ["hebe", "den", "würfel", "mal"]
    assert language.words("推红块") == ["推", "红", "块"]
    red, green = (embed(f"nimm den {color} block", unknown=True) for color in ("roten", "grünen"))
    assert red @ red == pytest.approx(language.SCALE**2, rel=0.05) and 0.5 < red @ green / (red @ red) < 0.95
    np.testing.assert_allclose(embed("qzxv", unknown=True)[:3], [0.0892, -0.3887, -1.0], atol=1e-4)  # in every process
    np.testing.assert_array_equal(embed("lift the red cube", unknown=True), embed("lift the red cube"))
    one, other = (language.embed_in_order(text, unknown=True) for text in ("推红块", "块红推"))
    assert not np.array_equal(one, other)
    assert language.has_unknown("the würfel") and not language.has_unknown("Lift the red cube!")


def test_every_word_of_the_grammars_is_known() -> None:
    table, _ = language._table()
    for grammar in (task.grammar for task in TASKS.values()):
        for split in ("train", "test"):
            for color, other in zip(COLORS, reversed(COLORS), strict=True):
                for sentence in grammar.sentences(color, split, other if grammar.cubes == 2 else None):
                    assert set(sentence.split()) <= table.keys()


def test_splits_and_tasks_share_no_sentence() -> None:
    sets = {
        (task, split): {s for color in COLORS for s in grammar.sentences(color, split)}
        for task, grammar in enumerate(GRAMMARS)
        for split in ("train", "test")
    }
    assert all(not a & b for a, b in combinations(sets.values(), 2))
    groups = (*nicol_language.COLOR_WORDS.values(), nicol_language.OBJECT_WORDS)
    held_out = {word for group in groups for word in group.held_out}
    for (_, split), some in sets.items():
        used = held_out & set(" ".join(some).split())
        assert used == (held_out if split == "test" else set())


def test_color_words_are_distinct() -> None:
    assert list(COLORS) == ["red", "green", "blue", "yellow"] == list(nicol_language.COLOR_WORDS)
    names = [word for color in nicol_language.COLOR_WORDS.values() for word in color.of("test")]
    assert len(names) == len(set(names))


def test_colors_stand_out() -> None:
    seen = [np.array(rgba[:3]) for rgba in COLORS.values()] + [np.ones(3)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.5


def test_sample_is_seeded_and_covers_the_sentences() -> None:
    draws = [GRAMMARS[0].sample(np.random.default_rng(seed), "red") for seed in range(50)]
    assert draws == [GRAMMARS[0].sample(np.random.default_rng(seed), "red") for seed in range(50)]
    assert len(set(draws)) > 25 and set(draws) <= set(GRAMMARS[0].sentences("red", "train"))
    assert GRAMMARS[1].sample(np.random.default_rng(0), "blue", "test") in GRAMMARS[1].sentences("blue", "test")


def test_bad_grammar_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="color='pink'.*'red', 'green', 'blue', 'yellow'"):
        GRAMMARS[0].sentences("pink")
    with pytest.raises(ValueError, match="split='val'"):
        GRAMMARS[0].sample(np.random.default_rng(0), "red", "val")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="held_out"):
        Grammar(("lift the {color} {object}",), ())
    with pytest.raises(ValueError, match="templates holds 'lift the {object}'"):
        Grammar(("lift the {object}",), ("raise the {color} {object}",))
    with pytest.raises(ValueError, match="are in templates too"):
        Grammar(("lift the {color} {object}",), ("lift the {color} {object}",))


def test_import_reads_no_table() -> None:
    code = "from dream_env import language; assert language._table.cache_info().currsize == 0"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("content", "error"), [(None, FileNotFoundError), (b"", ValueError), (save({}), ValueError)])
def test_missing_or_damaged_table_names_the_command(
    tmp_path, monkeypatch, content: bytes | None, error: type[Exception]
) -> None:
    (tmp_path / "language").mkdir()
    if content is not None:
        (tmp_path / "language" / "words.safetensors").write_bytes(content)
    monkeypatch.setattr(language.resources, "files", lambda package: tmp_path)
    with pytest.raises(error, match="python -m dream_env.assets.language.make_words"):
        language._table.__wrapped__()


def make_wheel(path) -> None:
    """Writes a wheel with 300 random vectors for single letters and the words "the" and "red"."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    merged = ["▁the", "▁red", "ed", "▁r", "th", "the"]
    tokens = [f"<{index}>" for index in range(259)] + merged + letters
    vectors = np.random.default_rng(0).normal(size=(300, 256)).astype(np.float16)
    model = {
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": ["e d", "▁ r", "▁r ed", "t h", "th e", "▁ the"],
    }
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(words.VECTORS, save({"embedding.weight": vectors}))
        wheel.writestr(words.TOKENIZER, json.dumps({"model": model}))


def test_command_builds_the_table(tmp_path, monkeypatch) -> None:
    make_wheel(tmp_path / "wordllama.whl")
    out = tmp_path / "language" / "words.safetensors"
    words.main(words.Args(wheel=tmp_path / "wordllama.whl", out=out))
    assert [file.name for file in out.parent.iterdir()] == ["words.safetensors"]
    monkeypatch.setattr(language.resources, "files", lambda package: tmp_path)
    rows, vectors = language._table.__wrapped__()
    assert vectors.shape == (len(rows), 64) and np.isfinite(vectors).all()
    length = np.linalg.norm(vectors, axis=1)
    assert length[rows["the"]] < length[rows["red"]] < length[rows["gripper"]]


def test_words_split_by_the_best_merges() -> None:
    merges = {pair: rank for rank, pair in enumerate([("e", "d"), ("▁", "r"), ("▁r", "ed")])}
    assert words.split("red", merges) == ["▁red"]
    assert words.split("redo", merges) == ["▁red", "o"]


def test_wrong_wheel_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        words.read_wheel(tmp_path / "none.whl")
    (tmp_path / "torn.whl").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no WordLlama wheel"):
        words.read_wheel(tmp_path / "torn.whl")


def test_color_of_finds_every_color_word() -> None:
    for name in COLORS:
        for split in ("train", "test"):
            for task in STANDARD:
                assert {color_of(sentence) for sentence in TASKS[task].grammar.sentences(name, split)} == {name}


@pytest.mark.parametrize("sentence", ["lift the cube", "lift the red cube onto the blue one"])
def test_color_of_wants_one_color(sentence: str) -> None:
    with pytest.raises(ValueError, match="red, crimson"):
        color_of(sentence)


def test_too_few_words_span_no_axes(tmp_path) -> None:
    make_wheel(tmp_path / "wordllama.whl")
    with pytest.raises(ValueError, match="words=64, of them 64 in DOMAIN; accepted: more than 64"):
        words.main(words.Args(wheel=tmp_path / "wordllama.whl", out=tmp_path / "words.safetensors", words=64))

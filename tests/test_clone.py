"""Behavior cloning: what it learns, how it goes on after a kill, what it refuses."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from dream_env import files
from dream_env.agents.clone import vla_clone as module
from dream_env.agents.clone.vla_clone import Arguments, Frames, clone, errors, make_frames, run
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.encoded_dataset import recolor
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.data.episode import Episode as AnyEpisode
from dream_env.data.episodes import EpisodeDataset as AnyEpisodes
from dream_env.language import embed
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import Episode, EpisodeDataset
from dream_env.nicol.language import COLORS
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import TASKS
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint


def scenes(count, seed, split="train"):
    """Frames of a rule: go to the cell of the token that the instruction names."""
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.permutation(64)[: len(COLORS)] for _ in range(count)])
    tokens = rng.normal(0, 0.3, (count, 64, 16))
    named = rng.integers(len(COLORS), size=count)
    for color in range(len(COLORS)):
        tokens[np.arange(count), cells[:, color], color] += 4
    row, column = np.divmod(cells[np.arange(count), named], 8)
    place = np.stack([row, column], 1) / 3.5 - 1
    sentences = [TASKS["reach"].grammar.sentences(color, split) for color in COLORS]
    counts = np.array([len(part) for part in sentences])
    first = np.cumsum(counts) - counts
    return Frames(
        embedding=torch.tensor(tokens).flatten(1).half(),
        proprio=torch.zeros(count, 4),
        label=torch.tensor(np.pad(0.9 * place, ((0, 0), (0, 2)))).float(),
        sentences=torch.tensor(np.stack([embed(s) for part in sentences for s in part])),
        first=torch.tensor(first[named]),
        phrasings=torch.tensor(counts[named]),
    )


def arguments(tmp_path, **kwargs):
    values = {"updates": 6, "batch": 16, "save_every": 2, "demos": 4, "data": (tmp_path,)} | kwargs
    return Arguments(out=tmp_path / "out", **values)


def test_learns_to_go_where_the_words_say(tmp_path):
    args = arguments(tmp_path, updates=400, batch=64, save_every=200, rate=3e-3)
    args.out.mkdir()
    vla = clone(args, scenes(2000, 0), scenes(200, 1))
    unheard = scenes(200, 2, "test")
    assert errors(vla, unheard)[:2].mean() < 0.1 * unheard.label[:, :2].var()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_phrasing_names_its_color(split):
    parts = [make_frames(toy.ToyWorldModel(), demonstrations(3), split, recolored) for recolored in (0, 1)]
    frames = Frames.concatenate(parts)
    grammar = TASKS["lift"].grammar
    generator = torch.Generator().manual_seed(0)
    said = {"red": set(), "blue": set(), "green": set(), "yellow": set()}  # red becomes green, and blue yellow
    for _ in range(100):
        obs, _ = frames.batch(torch.tensor([0, 1, 3, 4]) * EPISODE_STEPS, generator)
        for color, words in zip(said, obs["instruction"], strict=True):
            said[color].add(words.numpy().tobytes())
    for color, heard in said.items():
        known = {embed(sentence).tobytes() for sentence in grammar.sentences(color, split)}
        assert heard <= known and len(heard) > 5


def demonstrations(count, kind="demo"):
    """Episodes about the red, blue, red, ... cube."""
    rng = np.random.default_rng(0)
    length = EPISODE_STEPS + 1
    episodes = [
        Episode(
            seed=i,
            kind=kind,
            task="lift",
            instruction=f"lift the {['red', 'blue'][i % 2]} cube",
            images=rng.integers(0, 255, (length, 64, 64, 3)).astype(np.uint8),
            goal_image=np.zeros((64, 64, 3), np.uint8),
            proprio=rng.uniform(-1, 1, (length, 4)).astype(np.float32),
            action=np.zeros((EPISODE_STEPS, 4), np.float32),
            label=rng.uniform(-1, 1, (EPISODE_STEPS, 4)).astype(np.float32),
            objects=np.zeros((length, 3, 3), np.float32),
            colors=np.array([list(COLORS).index(c) for c in ("red", "blue", "green")]),
            target=i % 2,
            hand=np.zeros((length, 3), np.float32),
            held=np.zeros(length, bool),
            condition=np.zeros(length, bool),
        )
        for i in range(count)
    ]
    return EpisodeDataset.stack(episodes)


def test_frames_pair_a_picture_with_the_experts_action():
    episodes, model = demonstrations(2), toy.ToyWorldModel()
    frames = make_frames(model, episodes)
    step, row = 5, EPISODE_STEPS + 5
    image = torch.from_numpy(episodes.images[1, step][None])
    tokens = model.embedding(model.encode({"pixels": image}))[0]
    torch.testing.assert_close(frames.embedding[row].float(), tokens, atol=1e-2, rtol=1e-2)
    np.testing.assert_array_equal(frames.label[row], episodes.label[1, step])
    np.testing.assert_array_equal(frames.proprio[row], episodes.proprio[1, step])
    other = make_frames(model, episodes, recolored=1).embedding[row]
    tokens = model.embedding(model.encode({"pixels": torch.from_numpy(recolor(image.numpy(), 1))}))[0]
    torch.testing.assert_close(other.float(), tokens, atol=1e-2, rtol=1e-2)


def test_writes_a_policy_with_its_figures(tmp_path):
    args = arguments(tmp_path)
    figures = run(args, demonstrations(4), toy.ToyWorldModel())
    assert all(np.isfinite(value) for value in figures.values())
    vla = policy.load(args.out)
    assert vla.config.encoder_id == fingerprint(toy.ToyWorldModel())
    obs = {"embedding": np.zeros(1024), "proprio": np.zeros(4), "instruction": np.zeros(64)}
    assert vla.predict(obs)[0].shape == (4,)
    card = (args.out / "README.md").read_text()
    assert f"{figures['held_out_error']:.4f}" in card
    paths = (os.path.relpath(path) for path in (tmp_path, args.out))
    assert "python -m agents.clone --data {} --out {} --demos 4 --updates 6 --batch 16".format(*paths) in card
    assert list((args.out / "tensorboard").iterdir())


def test_takes_its_sizes_from_the_world_model(tmp_path):
    args = arguments(tmp_path, updates=2)
    run(args, demonstrations(4), toy.ToyWorldModel(toy.ToyConfig(channels=8)))
    config = policy.load(args.out).config
    assert (config.grid, config.channels) == (8, 8)


def test_keeps_the_policy_along_the_way(tmp_path):
    args = arguments(tmp_path, updates=6, snapshots=(1, 3, 6))
    run(args, demonstrations(4), toy.ToyWorldModel())
    kept = sorted((args.out / "snapshots").iterdir())
    assert [folder.name for folder in kept] == ["000001", "000003", "000006"]
    first, last = (policy.load(kept[i]).action.weight for i in (0, -1))
    assert not torch.equal(first, last)


def test_a_killed_run_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    episodes, model = demonstrations(4), toy.ToyWorldModel()
    run(args := arguments(tmp_path, updates=8), episodes, model)
    whole = (args.out / "model.safetensors").read_bytes()
    broken, replaced = replace(args, out=tmp_path / "broken"), []

    def replace_and_die(part, whole):
        real(part, whole)
        replaced.append(whole)
        if len(replaced) == 2:
            raise KeyboardInterrupt

    real = files.os.replace
    monkeypatch.setattr(files.os, "replace", replace_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(broken, episodes, model)
    monkeypatch.undo()
    assert not (broken.out / "model.safetensors").exists()
    run(broken, episodes, model)
    assert (broken.out / "model.safetensors").read_bytes() == whole
    with pytest.raises(ValueError, match="other settings: seed '0', now '1'"):
        run(replace(broken, seed=1), episodes, model)
    with pytest.raises(ValueError, match="other settings: data_checksum"):
        run(broken, replace(episodes, action=episodes.action + 0.5), model)
    monkeypatch.chdir(tmp_path)
    run(replace(broken, data=Path("."), out=Path("broken")), episodes, model)  # spelled otherwise
    assert (broken.out / "model.safetensors").read_bytes() == whole


def test_refuses_data_without_enough_demonstrations(tmp_path):
    with pytest.raises(ValueError, match="holds 4 demonstrations; accepted: demos=5 of them, .* `--demos 4` uses"):
        run(arguments(tmp_path, demos=5), demonstrations(4), toy.ToyWorldModel())
    for share in (0.9, 1.0):
        with pytest.raises(ValueError, match=f"held_out={share} leaves none of 4 demonstrations"):
            run(arguments(tmp_path, held_out=share), demonstrations(4), toy.ToyWorldModel())
    with pytest.raises(ValueError, match="kind"):
        run(arguments(tmp_path), demonstrations(4, kind="play"), toy.ToyWorldModel())
    with pytest.raises(ValueError, match="kind 'slots' .*accepted: .*--policy transformer"):
        run(arguments(tmp_path), demonstrations(4), checkpoint.load("unlabelled"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"demos": 1},
        *({name: 0} for name in ("per_task", "updates", "batch", "save_every")),
        *({name: -1} for name in ("demos", "rate", "weight_decay", "token_noise", "closing_weight", "seed")),
        *({"held_out": share} for share in (-0.1, 1.1, float("nan"))),
        {"recolor": 4},
    ],
)
def test_refuses_numbers_that_mean_nothing(tmp_path, change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*accepted: "):
        arguments(tmp_path, **change)


def test_what_the_run_reads_is_never_written_over(tmp_path):
    world = toy.save(tmp_path / "world")
    config = Path(world, "config.json").read_bytes()
    for args in (arguments(tmp_path, world_model=world), arguments(tmp_path / "world")):
        with pytest.raises(ValueError, match="is what the run reads; accepted: a new folder"):
            run(replace(args, out=Path(world)), demonstrations(4), toy.ToyWorldModel())
    with pytest.raises(ValueError, match="holds a checkpoint of kind 'toy'"):
        run(replace(arguments(tmp_path), out=Path(world)), demonstrations(4), toy.ToyWorldModel())
    assert Path(world, "config.json").read_bytes() == config


def test_begins_with_what_the_world_model_knows_of_words_and_places(tmp_path):
    world = StateGroundedModel(StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=8, blocks=1))
    config = module.vla_config(arguments(tmp_path), world)
    assert config.reads and policy.VLA(config).trunk.readout is None
    alone = module.vla_config(arguments(tmp_path, grounded=False), world)
    assert not alone.reads and policy.VLA(alone).trunk.readout
    vla = policy.VLA(module.vla_config(arguments(tmp_path, looks=True), world))
    module.ground(vla, world)
    head, trunk = world.success_head, vla.trunk
    for mine, known in (
        (trunk.readout, head.readout),
        (trunk.target_selector, head.target_selector),
        (trunk.state_estimator, world.state_estimator),
    ):
        for name, weights in known.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], weights)
    assert not any(p.requires_grad for p in vla.trunk.state_estimator.parameters())

    toys = policy.VLA(module.vla_config(arguments(tmp_path), toy.ToyWorldModel()))
    before = toys.trunk.readout.key[0].weight.clone()
    module.ground(toys, toy.ToyWorldModel())
    assert torch.equal(toys.trunk.readout.key[0].weight, before) and toys.trunk.state_estimator is None


def imagined(length=5):
    """Three episodes as `agents.synthesize` writes them, without labels; the last one fails."""
    rng = np.random.default_rng(1)
    return AnyEpisodes.stack(
        [
            AnyEpisode(
                observation={
                    "pixels": rng.integers(0, 255, (length + 1, 64, 64, 3)).astype(np.uint8),
                    "proprio": np.zeros((length + 1, 4), np.float32),
                },
                action=np.full((length, 4), 0.1 * i, np.float32),
                success=np.full(length + 1, i < 2),
                instruction=f"lift the {['red', 'blue', 'green'][i]} cube",
                goal={"pixels": np.zeros((64, 64, 3), np.uint8)},
                seed=i,
                kind="dream",
                task="lift",
            )
            for i in range(3)
        ],
        SPEC,
    )


def test_further_folders_give_a_share_of_every_batch(tmp_path, monkeypatch):
    further = imagined()
    frames = module.further_frames(toy.ToyWorldModel(), further)
    assert len(frames.label) == 15 and frames.label[5:10].eq(0.1).all() and frames.embedding.shape[0] == 15
    own = make_frames(toy.ToyWorldModel(), demonstrations(3))
    assert (
        frames.embedding.shape[1:] == own.embedding.shape[1:] and frames.sentences.shape[1:] == own.sentences.shape[1:]
    )
    drawn = []
    batch = Frames.batch
    monkeypatch.setattr(
        Frames, "batch", lambda self, rows, *a: drawn.append((self, len(rows))) or batch(self, rows, *a)
    )
    args = arguments(tmp_path, data=(tmp_path, tmp_path / "dreamt"), share=0.25, updates=1)
    (tmp_path / "out").mkdir()
    clone(args, scenes(20, 0), scenes(5, 1), more=scenes(20, 2))
    assert [count for _, count in drawn[:2]] == [12, 4]
    assert "share" in args.settings() and "further" in args.settings()
    assert "share" not in arguments(tmp_path).settings()  # so runs of before go on
    with pytest.raises(ValueError, match=r"share=0.5 with 1 folders of data; accepted: a share with two"):
        arguments(tmp_path, share=0.5)

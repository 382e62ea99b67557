"""Trains NICOL's VLA by behavior cloning: `python -m agents.clone --data DIR --demos 300 --out DIR`.

This is `--policy vla`, the default for NICOL's data; the other kinds are transformer (the default for other data),
latent and video. The label of a frame is the scripted expert's clean action in that state, even if a noisy action was
executed (DART: Laskey et al. 2017). The frozen world model encodes every frame once. To keep the small action head from
memorizing, noise is added to the vision tokens and the instruction is rephrased at random. A share of every batch can
come from further folders, such as episodes synthesized in a world model (`--data real dreamt --share 0.5`); the number
of updates stays the same. Give the same command again to resume a run that was killed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dream_env.agents.clone.vla_arguments import Arguments
from dream_env.agents.fit.trainer import CHECKSUM
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.encoded_dataset import check_tokens, encode_episodes
from dream_env.agents.nicol.sentences import sentences
from dream_env.agents.nicol.vla import VLA, VLAConfig
from dream_env.agents.policies.encoder_id import fingerprint
from dream_env.agents.run.config import check_out, check_settings, command_line, resolve_paths, whereabouts
from dream_env.checks import check_choice
from dream_env.data.episodes import EpisodeDataset as AnyEpisodes
from dream_env.files import replacing
from dream_env.language import embedder
from dream_env.nicol.constants import ACTION_NAMES, IMAGE_SIZE
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.language import COLORS, Split, color_of
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import TASKS, task_of
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import WorldModel


class Frames(NamedTuple):
    """M frames of demonstrations.

    Attributes:
        embedding: Flattened tokens, `(M, E)` float16.
        proprio: Set-points, `(M, 4)` float32.
        label: Actions to imitate, `(M, 4)` float32.
        sentences: Embeddings of all phrasings of all instructions, `(S, 64)` float32.
        first: Index in `sentences` of the first phrasing of each frame's instruction, `(M,)` int64.
        phrasings: Number of phrasings of that instruction, at consecutive indices, `(M,)` int64.
    """

    embedding: Tensor
    proprio: Tensor
    label: Tensor
    sentences: Tensor
    first: Tensor
    phrasings: Tensor

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the observations and labels of frames `rows`, each with a random phrasing of its instruction."""
        noise = torch.rand(len(rows), generator=generator)
        phrasing = self.first[rows] + (noise * self.phrasings[rows]).long()
        obs = {
            "embedding": self.embedding[rows].float(),
            "proprio": self.proprio[rows],
            "instruction": self.sentences[phrasing],
        }
        return obs, self.label[rows]

    @staticmethod
    def concatenate(parts: Sequence[Frames]) -> Frames:
        """Concatenates frames."""
        before = np.cumsum([0, *(len(part.sentences) for part in parts)]).tolist()
        moved = [part._replace(first=part.first + shift) for part, shift in zip(parts, before, strict=False)]
        return Frames(*map(torch.cat, zip(*moved, strict=True)))


def make_frames(model: WorldModel, episodes: EpisodeDataset, split: Split = "train", recolored: int = 0) -> Frames:
    """Encodes demonstrations, and embeds all phrasings of their instructions that belong to a split.

    Args:
        model: World model that encodes pictures and sentences.
        episodes: The demonstrations.
        split: Split of the phrasings.
        recolored: Number of places by which the color of every cube, in pictures and instructions, is shifted in the
            list of colors (see `agents.nicol.encoded_dataset.recolor`).
    """
    named = episodes.colors[np.arange(len(episodes)), episodes.target] + recolored
    colors = np.array(list(COLORS))[named % len(COLORS)]
    named = list(zip(episodes.task.tolist(), colors.tolist(), strict=True))
    encoded = encode_episodes(model, episodes, recolored=recolored)
    return Frames(
        encoded.tokens[:, :-1].flatten(2).flatten(0, 1),
        encoded.proprio[:, :-1].flatten(0, 1),
        torch.tensor(episodes.label).flatten(0, 1),
        *_embed_phrasings(model, named, [episodes.label.shape[1]] * len(named), split),
    )


@torch.no_grad()
def further_frames(model: WorldModel, episodes: AnyEpisodes) -> Frames:
    """Encodes episodes without expert labels, such as synthesized ones; the executed actions are their labels.

    Args:
        model: World model that encodes pictures and sentences.
        episodes: Episodes of NICOL, of any length.
    """
    tasks = [
        task if task in TASKS else task_of(sentence)
        for task, sentence in zip(episodes.task.tolist(), episodes.instruction.tolist(), strict=True)
    ]
    named = list(zip(tasks, map(color_of, episodes.instruction.tolist()), strict=True))
    rows = [episodes[i] for i in range(len(episodes))]
    tokens = [model.encode({"pixels": torch.from_numpy(row.observation["pixels"][:-1])})["tokens"] for row in rows]
    return Frames(
        torch.cat(tokens).flatten(1).half().cpu(),
        torch.from_numpy(np.concatenate([row.observation["proprio"][:-1] for row in rows])),
        torch.from_numpy(np.concatenate([row.action for row in rows])),
        *_embed_phrasings(model, named, [len(row.action) for row in rows], "train"),
    )


def _embed_phrasings(
    model: WorldModel, named: list[tuple[str, str]], steps: Sequence[int], split: Split
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeds the phrasings of a split for episodes with the given (task, color) pairs and numbers of steps.

    Returns:
        `sentences`, `first` and `phrasings` of `Frames`.
    """
    phrasings = {key: TASKS[key[0]].grammar.sentences(key[1], split) for key in sorted(set(named))}
    counts = {key: len(sentences) for key, sentences in phrasings.items()}
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    words, length = embedder(model), torch.tensor(steps)
    return (
        torch.tensor(np.stack([words(s) for part in phrasings.values() for s in part])),
        torch.tensor([int(starts[key]) for key in named]).repeat_interleave(length),
        torch.tensor([counts[key] for key in named]).repeat_interleave(length),
    )


@torch.no_grad()
def errors(vla: VLA, frames: Frames) -> Tensor:
    """Returns the mean squared error of each action dimension `(4,)` over all frames."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(len(frames.label)).split(512)
    parts = [frames.batch(part, generator) for part in rows]
    return torch.cat([(vla(obs) - label) ** 2 for obs, label in parts]).mean(0)


@torch.no_grad()
def vla_config(args: Arguments, model: WorldModel) -> VLAConfig:
    """Returns the config of a VLA that fits the world model's tokens and stores the fingerprint of its encoder."""
    picture = torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8, device=model.device)
    _, tokens, channels = model.encode({"pixels": picture})["tokens"].shape
    reads = args.grounded and hasattr(model, "state_estimator")
    return VLAConfig(
        channels=channels,
        grid=math.isqrt(tokens),
        queries=VLAConfig.queries if args.looks or not reads else 0,
        reads=reads,
        sentences=len(sentences("train")),
        world_model=args.world_model,
        encoder_id=fingerprint(model),
    )


def known_sentences(model: WorldModel) -> Tensor:
    """Returns the embeddings `(S, 64)` of all phrasings in the train split, over all tasks and colors."""
    words = embedder(model)
    return torch.tensor(np.stack([words(sentence.words) for sentence in sentences("train")]))


def rate_factor(update: int, updates: int, rising: int = 100) -> float:
    """Returns the learning rate relative to its peak: a linear warm-up over `rising` updates, times a cosine to 0."""
    return min(1.0, (update + 1) / rising) * 0.5 * (1 + math.cos(math.pi * update / updates))


def ground(vla: VLA, model: WorldModel) -> None:
    """Initializes a VLA from a world model: readout and target selector of its success head, and its state estimator.

    Readout and target selector are kept as they are if the world model has none of the same shapes.
    """
    head, trunk = getattr(model, "success_head", None), vla.trunk
    for name in ("readout", "target_selector"):
        known, own = (part.state_dict() if part else {} for part in (getattr(head, name, None), getattr(trunk, name)))
        if known and {key: w.shape for key, w in known.items()} == {key: w.shape for key, w in own.items()}:
            getattr(trunk, name).load_state_dict(known)
    if trunk.state_estimator is not None:
        trunk.state_estimator.load_state_dict(model.state_estimator.state_dict())  # type: ignore[attr-defined]


def clone(
    args: Arguments,
    train: Frames,
    held_out: Frames,
    config: VLAConfig | None = None,
    model: WorldModel | None = None,
    more: Frames | None = None,
    checksums: Sequence[int] = (),
) -> VLA:
    """Trains a VLA on frames and returns it with the weights of the lowest held-out error.

    Args:
        args: See `Arguments`.
        train: Frames to imitate.
        held_out: Frames to validate on.
        config: Config of the VLA; None for the default sizes.
        model: World model that embeds sentences and initializes the VLA, see `ground`; None for neither.
        more: Further frames, which make up `args.share` of every batch.
        checksums: Checksums of the episodes that the frames are from.

    Raises:
        ValueError: If `args.out` holds a run with other settings or other episodes.
    """
    torch.manual_seed(args.seed)
    vla = VLA(config or VLAConfig(world_model=args.world_model))
    if model is not None and vla.config.sentences:
        vla.trunk.known.copy_(known_sentences(model))
    if model is not None and args.grounded:
        ground(vla, model)
    best, least, done = vla.state_dict(), math.inf, 0
    optimizer = torch.optim.AdamW(vla.parameters(), args.rate, weight_decay=args.weight_decay)
    generator = torch.Generator().manual_seed(args.seed)
    last, settings = args.out / "last.pt", args.settings() | {CHECKSUM: [*checksums]}
    if last.exists():
        state = torch.load(last, weights_only=True)
        before = {CHECKSUM: settings[CHECKSUM]} | json.loads(state["settings"])  # older runs have none
        check_settings(args.out, resolve_paths(before), settings)
        vla.load_state_dict(state["vla"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        best, least, done = state["best"], state["least"], state["done"]

    parts = [(train, args.batch)]
    if more is not None and (further := round(args.share * args.batch)):
        parts = [(train, args.batch - further), (more, further)]
    weight = torch.ones(len(ACTION_NAMES))
    weight[ACTION_NAMES.index("closing")] = args.closing_weight
    with SummaryWriter(str(args.out / "tensorboard")) as writer:
        for update in (bar := progress_bar(range(done, args.updates), initial=done, total=args.updates)):
            drawn = [
                frames.batch(torch.randint(len(frames.label), (count,), generator=generator), generator)
                for frames, count in parts
            ]
            obs = {name: torch.cat([seen[name] for seen, _ in drawn]) for name in drawn[0][0]}
            label = torch.cat([label for _, label in drawn])
            noise = torch.randn(obs["embedding"].shape, generator=generator)
            obs["embedding"] += args.token_noise * noise
            loss = ((vla(obs) - label) ** 2 * weight).mean()
            for group in optimizer.param_groups:
                group["lr"] = args.rate * rate_factor(update, args.updates)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if update + 1 in args.snapshots:
                card = f"# VLA in cloning\n\nAfter {update + 1} of {args.updates} updates.\n"
                policy.save(vla, args.out / "snapshots" / f"{update + 1:06d}", card)
            if (update + 1) % args.save_every and update + 1 < args.updates:
                continue
            each = errors(vla, held_out)
            error = (each * weight).mean().item()
            bar.set_postfix(train=f"{loss.item():.4f}", held_out=f"{error:.4f}")
            writer.add_scalar("loss/train", loss.item(), update + 1)
            writer.add_scalar("loss/held_out", error, update + 1)
            for name, value in zip(ACTION_NAMES, each, strict=True):
                writer.add_scalar(f"held_out/{name}", value.item(), update + 1)
            if error < least:
                least, best = error, {k: v.clone() for k, v in vla.state_dict().items()}
            state = {
                "settings": json.dumps(settings),
                "vla": vla.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "best": best,
                "least": least,
                "done": update + 1,
            }
            with replacing(last) as part:
                torch.save(state, part)
    vla.load_state_dict(best)
    return vla.eval()


def demonstrations(args: Arguments, episodes: EpisodeDataset) -> EpisodeDataset:
    """Returns the first demonstrations of the data: `args.demos` over all tasks, or `args.per_task` of each task.

    Raises:
        ValueError: If there are fewer than requested, or fewer than two.
    """
    check_choice("kind", "demo", sorted(set(episodes.kind.tolist())))
    there = np.flatnonzero(episodes.kind == "demo")
    rows, wanted, found = there[: args.demos], args.demos, len(there)
    if args.per_task is not None:
        tasks = episodes.task[there]
        each = [there[tasks == task] for task in sorted(set(tasks))]
        rows = np.sort(np.concatenate([own[: args.per_task] for own in each]))
        wanted, found = args.per_task, min(map(len, each))
    if found < wanted or len(rows) < 2:
        name, of = ("demos", "") if args.per_task is None else ("per_task", " of some task")
        raise ValueError(
            f"data={str(args.data[0])!r} holds {found} demonstrations{of}; accepted: {name}={wanted} of them, "
            f"at least 2 in all. `--{name.replace('_', '-')} {found}` uses those that exist; a larger "
            "`agents.collect --episodes` collects more"
        )
    return episodes.take(rows)


def run(
    args: Arguments, episodes: EpisodeDataset, model: WorldModel, further: AnyEpisodes | None = None
) -> dict[str, Any]:
    """Trains the policy, saves it to `args.out` and returns its errors.

    Args:
        args: See `Arguments`.
        episodes: Episodes that contain the demonstrations.
        model: The world model that `args.world_model` names.
        further: Episodes of the further folders, whose executed actions are imitated.

    Raises:
        ValueError: If there are fewer demonstrations than requested, or fewer than two, if none is left to train on, or
            if `args.out` holds a run with other settings or episodes, or something else.
    """
    check_out(args.out, VLA.kind, *args.data, args.world_model)
    check_tokens(model)
    demos = demonstrations(args, episodes)
    aside = max(1, round(args.held_out * len(demos)))
    if aside == len(demos):
        raise ValueError(f"held_out={args.held_out} leaves none of {aside} demonstrations to train on; accepted: less")
    args.out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(args.seed).permutation(len(demos))
    measured = demos.take(np.sort(order[:aside]))
    learned = demos.take(np.sort(order[aside:]))
    train = Frames.concatenate([make_frames(model, learned, recolored=places) for places in range(args.recolor + 1)])
    held_out = make_frames(model, measured)
    more = None if further is None or not len(further) else further_frames(model, further)
    checksums = [demos.checksum] if more is None or further is None else [demos.checksum, further.checksum]
    vla = clone(args, train, held_out, vla_config(args, model), model, more, checksums)
    unheard = make_frames(model, measured, "test")
    figures = {
        "train_error": errors(vla, train).mean().item(),
        "held_out_error": errors(vla, held_out).mean().item(),
        "held_out_phrasing_error": errors(vla, unheard).mean().item(),
        "label_variance": held_out.label.var(0).mean().item(),
    }
    policy.save(vla, args.out, _card(args, demos, figures))
    return figures


def _card(args: Arguments, demos: EpisodeDataset, figures: dict[str, float]) -> str:
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value:.4f} |" for key, value in figures.items())
    tasks = ", ".join(f"{task} {(demos.task == task).sum()}" for task in sorted(set(demos.task)))
    return (
        f"# VLA cloned from the scripted expert\n\n`{command_line('clone', args)}`\n\n"
        f"{len(demos)} demonstrations ({tasks}), world model `{args.world_model}`, seed {args.seed}, "
        f"{args.updates} updates of {args.batch} frames.\n\n"
        f"| mean squared error of actions in [-1, 1] | |\n|---|---|\n{rows}\n"
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    more = None
    if args.share:
        more = AnyEpisodes.load(*args.data[1:], spec=SPEC)
        more = more if more.success is None else more.take(more.solved)
        if not len(more):
            raise ValueError(f"data={[str(one) for one in args.data[1:]]} hold no success; accepted: at least one")
    figures = run(args, EpisodeDataset.load(args.data[0]), checkpoint.load(args.world_model), more)
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value:.4f}")
    print(whereabouts(args.out))

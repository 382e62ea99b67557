"""Trains a VLA by cloning: `python -m agents.clone --policy transformer --data DIR --world-model W --out DIR`.

Works with any dataset and any kind of world model. The frozen world model encodes every recorded frame once, and a
transformer learns to predict chunks of actions from the embeddings (behavior cloning). The policy runs in the dream and
in the real environment (`dream_env.wrappers.WorldModelWrapper`), is evaluated by `agents.evaluate` and fine-tuned by
`agents.train --init`. Give the same command again to resume a run that was killed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from dream_env.agents.clone.batches import Batches, error
from dream_env.agents.clone.encoded_frames import EncodedFrames, check_world, encode
from dream_env.agents.clone.transformer_arguments import Arguments
from dream_env.agents.fit.trainer import CHECKSUM, Run, Stage
from dream_env.agents.policies import registry
from dream_env.agents.policies.encoder_id import fingerprint, same
from dream_env.agents.policies.latents import TransformerVLAConfig
from dream_env.agents.policies.transformer_vla import TransformerVLA
from dream_env.agents.run.config import check_out, command_line, whereabouts
from dream_env.data.episode import UNKNOWN
from dream_env.data.episodes import EpisodeDataset
from dream_env.language import INSTRUCTION_DIM
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import WorldModel


def demonstrations(data: EpisodeDataset, args: Arguments, first: bool = True) -> EpisodeDataset:
    """Returns the demonstrations of a dataset, see `chosen`."""
    return data if args.hindsight == 1 else data.take(chosen(data, args, first))


def chosen(data: EpisodeDataset, args: Arguments, first: bool = True) -> np.ndarray:
    """Returns the indices of the episodes that are used as demonstrations.

    With hindsight only (`args.hindsight` is 1) these are all episodes.

    Args:
        data: Recorded episodes.
        args: See `Arguments`.
        first: Whether this is the first folder. In further folders, all successful episodes are used.

    Raises:
        ValueError: If there are fewer than requested, or none of the requested kind or task.
    """
    if args.hindsight == 1:
        return np.arange(len(data))
    among = np.ones(len(data), bool)
    kinds = set(data.kind.tolist())
    kind = args.kind or ("demo" if "demo" in kinds else None)
    if first and kind is not None:
        if kind not in kinds:
            raise ValueError(f"kind={kind!r} is not known; accepted: {', '.join(sorted(kinds))}")
        among &= data.kind == kind
    elif data.success is not None:
        among &= data.solved
    if args.tasks:
        if unknown := set(args.tasks) - set(data.task.tolist()):
            raise ValueError(f"tasks={sorted(unknown)} are not known; accepted: {sorted(set(data.task.tolist()))}")
        among &= np.isin(data.task, args.tasks)
    rows = np.flatnonzero(among)
    given, found, of = ("demonstrations", args.demonstrations), len(rows), ""
    if first and args.per_task is not None:
        asked = set(args.tasks) or set(data.task[rows].tolist())
        each = [rows[data.task[rows] == task] for task in sorted(asked)]
        given, found, of = ("per_task", args.per_task), min(map(len, each), default=0), " of a task"
        rows = np.sort(np.concatenate([own[: args.per_task] for own in each] or [rows]))
    elif first and args.demonstrations is not None:
        rows = rows[: args.demonstrations]
    if not found:
        raise ValueError(
            f"the data hold no demonstrations{of}; accepted: one or more, of kind demo or with success at the end, or "
            "--policy transformer --hindsight 1 --goal, which needs none"
        )
    if first and found < (given[1] or 0):
        raise ValueError(f"{given[0]}={given[1]}: the data hold {found} demonstrations{of}; accepted: 1 to {found}")
    return rows


def token_shape(model: WorldModel, data: EpisodeDataset) -> tuple[int, int]:
    """Returns number and length of the tokens that make up the embedding; a plain vector is one token.

    The shape is that of the entry `(B, T, C)` of the latent state that equals the embedding when it is flattened.
    """
    seen = {name: torch.from_numpy(np.array(part[:1])).to(model.device) for name, part in data.observation.items()}
    if model.spec.instructions:  # some world models need an instruction to encode
        seen["instruction"] = torch.zeros(1, INSTRUCTION_DIM, device=model.device)
    with torch.inference_mode():
        state = model.encode(seen)
        embedding = model.embedding(state)
    for part in state.values():
        if part.dim() == 3 and part[0].numel() == embedding.shape[1] and torch.equal(part.flatten(1), embedding):
            return int(part.shape[1]), int(part.shape[2])
    return 1, int(embedding.shape[1])


def config_of(
    args: Arguments, model: WorldModel, data: EpisodeDataset, config_class: Any = TransformerVLAConfig, **further: Any
) -> Any:
    """Returns the config of a policy for a world model and data.

    Args:
        args: See `Arguments`.
        model: World model that encodes the policy's observations.
        data: Recorded episodes of its environment.
        config_class: Class of the config.
        **further: Further fields of the config.

    Raises:
        ValueError: If actions are not bounded vectors, or a goal or an instruction is requested and there is none.
    """
    space, spec = model.spec.action, model.spec
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise ValueError(
            f"{spec.name} has actions {space}; accepted: a bounded Box. Record with agents.collect --action-low and "
            "--action-high (a data set of another tool needs min and max of `action` in its meta/stats.json), and fit "
            "the world model again; or train without demonstrations: agents.train --init none"
        )
    if args.goal and not spec.goals:
        raise ValueError(f"goal=True: the world model of {spec.name} knows no goals; accepted: False")
    language = args.language or ("words" if spec.instructions else "none")
    if language != "none" and not spec.instructions:
        raise ValueError(f"language={language!r}: {spec.name} has no sentences; accepted: 'none'")
    tokens, channels = token_shape(model, data)
    sizes = ("head", "modes", "chunk", "execute", "std", "width", "depth", "latents", "goal")
    values = {
        "tokens": tokens,
        "channels": channels,
        "action_low": tuple(space.low.astype(float).tolist()),
        "action_high": tuple(space.high.astype(float).tolist()),
        "vectors": {name: int(spec.observation[name].shape[0]) for name in model.observed},  # type: ignore[index]
        "language": language,
        "compares": args.goal or args.hindsight > 0,
        "world_model": args.world_model,
        "encoder_id": fingerprint(model),
    }
    return config_class(**{**values, **{name: getattr(args, name) for name in sizes}, **further})


def check_encoder(out: Path, config: Any) -> None:
    """Checks that a run which goes on in a folder began with the encoder that the world model has now.

    Args:
        out: Folder of the run.
        config: Config of the policy.

    Raises:
        ValueError: If the world model was fitted again in the meantime.
    """
    file = out / "last" / checkpoint.CONFIG
    if not file.is_file():
        return
    known = json.loads(file.read_text(encoding="utf-8"))["encoder_id"]
    if not same(known, config.encoder_id):
        raise ValueError(
            f"out={out} holds a run with the encoder that {config.world_model!r} had before it was fitted again; "
            "accepted: another folder, or the world model of that time"
        )


class Cloning:
    """How one kind of policy is cloned; subclasses override parts of it for other kinds.

    Args:
        args: See `Arguments`.
        data: Episodes of the first folder.

    Attributes:
        rows: Indices of the demonstrations to train on.
        aside: Indices of the demonstrations that are held out.
        others: Indices of all episodes that are not held out.
    """

    policy_class: Any = TransformerVLA

    def __init__(self, args: Any, data: EpisodeDataset) -> None:
        self.args, self.data = args, data
        demos = chosen(data, args)
        aside = min(round(args.held_out * len(demos)), len(demos) - 1)
        if args.held_out and len(demos) > 1:
            aside = max(1, aside)
        order = np.random.default_rng(args.seed).permutation(len(demos))
        self.rows, self.aside = demos[np.sort(order[aside:])], demos[np.sort(order[:aside])]
        self.others = np.setdiff1d(np.arange(len(data)), self.aside)

    @property
    def from_all(self) -> bool:
        """Whether training uses all recorded episodes, not only demonstrations."""
        return self.args.hindsight > 0

    def config(self, model: WorldModel) -> Any:
        """Returns the config of the policy."""
        return config_of(self.args, model, self.data, self.policy_class.config_class)

    def batches(self, policy: Any, own: EncodedFrames, more: EncodedFrames | None, every: EncodedFrames | None) -> Any:
        """Returns the object that draws batches and computes the loss; first measures the scale of embeddings.

        Args:
            policy: The policy, before training.
            own: The demonstrations `rows`.
            more: Demonstrations of the further folders; None if there are none.
            every: The episodes `others`; None unless `from_all`.
        """
        policy.trunk.measure((every if self.args.hindsight and every is not None else own).embedding)
        return Batches(self.args, own, more, every)

    def report(self, policy: Any, held_out: EncodedFrames | None) -> dict[str, Any]:
        """Returns the errors of a policy on held-out demonstrations."""
        return {} if held_out is None else {"held_out": error(policy, held_out)}

    def stages(self, policy: Any, batches: Any, held_out: EncodedFrames | None) -> list[Stage]:
        """Returns the stages of training."""
        return [self.acting(policy, policy, batches, held_out)]

    def acting(self, policy: Any, module: nn.Module, batches: Any, held_out: EncodedFrames | None) -> Stage:
        """Returns the stage that trains `module`, the part of the policy that produces actions."""
        return Stage(
            "clone",
            module,
            lambda generator, progress: batches.loss(policy, generator),
            self.args.updates,
            self.args.rate,
            average=0.995,
            report=lambda: self.report(policy, held_out),
        )


def clone(
    args: Any, data: list[EpisodeDataset], model: WorldModel, cloning: type[Cloning] = Cloning
) -> tuple[Any, dict[str, Any]]:
    """Trains the policy, saves it to `args.out`, and returns it with its errors and sizes.

    Args:
        args: See `Arguments`.
        data: Episodes: the demonstrations, then those of the further folders.
        model: The world model that `args.world_model` names.
        cloning: How this kind of policy is cloned.

    Raises:
        ValueError: If arguments, data and world model do not fit together, or `args.out` holds a run with other
            settings, or something else.
    """
    kind = cloning.policy_class.kind
    check_out(args.out, kind, *args.data, args.world_model)
    for one in data:
        check_world(model, one)
    how = cloning(args, data[0])
    config = how.config(model)
    check_encoder(args.out, config)
    # All frames are encoded once, unless only the demonstrations are needed.
    whole = encode(model, data[0], args.imitates) if how.from_all else None

    def encoded(rows: np.ndarray) -> EncodedFrames:
        return encode(model, data[0].take(rows), args.imitates) if whole is None else whole.take(rows)

    own = encoded(how.rows)
    held_out = encoded(how.aside) if len(how.aside) else None
    more = None
    if args.share:
        further = [demonstrations(one, replace(args, tasks=()), first=False) for one in data[1:]]
        more = encode(model, EpisodeDataset.concatenate(further))
    every = None
    if whole is not None:
        acted = replace(whole, target=torch.from_numpy(np.array(data[0].action, np.float32)))
        every = own if args.hindsight == 1 else acted.take(how.others)
    torch.manual_seed(args.seed)
    policy = how.policy_class(config)
    batches = how.batches(policy, own, more, every)
    counts = {"episodes": len(how.rows) + len(how.aside), "frames": len(own.acted)}
    run = Run(
        policy,
        args.out,
        args.settings() | counts | {CHECKSUM: [one.checksum for one in data]},
        seed=args.seed,
        muon=False,
        cpu_time=True,
        write=lambda part, folder: registry.save(part, folder, "# Policy in cloning\n"),
    )
    for stage in how.stages(policy, batches, held_out):
        run.train(stage)
    policy.eval()
    figures = counts | {
        "parameters": sum(part.numel() for part in policy.parameters()),
        "train_error": error(policy, own),
        **{f"{name}_error": value for name, value in how.report(policy, held_out).items()},
        "minutes": round(sum(run.seconds.values()) / 60, 2),
    }
    registry.save(policy, args.out, card(args, data[0].take(np.union1d(how.rows, how.aside)), figures, kind))
    return policy, figures


def card(args: Any, demos: EpisodeDataset, figures: dict[str, Any], kind: str) -> str:
    """Returns the text of a policy's card."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in figures.items())
    tasks = ", ".join(f"{task} {(demos.task == task).sum()}" for task in sorted(set(demos.task)) if task != UNKNOWN)
    return (
        f"# Policy cloned from demonstrations of {demos.spec.name}\n\n"
        f"`{command_line(f'clone --policy {kind}', args)}`\n\n"
        f"{len(demos)} demonstrations{f' ({tasks})' if tasks else ''}, world model `{args.world_model}`, seed "
        f"{args.seed}, {args.updates} updates of {args.batch} frames. Errors are mean squares of actions' errors, as "
        f"shares of half their bounds; minutes are CPU time.\n\n| | |\n|---|---|\n{rows}\n"
    )


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else f"{value:,}"


def load(args: Any) -> list[EpisodeDataset]:
    """Returns the data: with a share, the demonstrations and each further folder; else all folders as one dataset."""
    parts = [(folder,) for folder in args.data] if args.share else [args.data]
    return [EpisodeDataset.load(*folders) for folders in parts]


def main(args: Any, cloning: type[Cloning] = Cloning) -> None:
    """Runs the command."""
    _, figures = clone(args, load(args), checkpoint.load(args.world_model), cloning)
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {_shown(value)}")
    print(whereabouts(args.out))

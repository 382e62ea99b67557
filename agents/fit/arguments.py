"""What `agents.fit` can be told: its command line, with a default for everything but the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dream_env.checks import check_choice, check_number
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.config import StateGroundedConfig

SHARES = {
    "autoencoder": 0.2,
    "reader": 0.07,
    "sketch": 0.05,
    "interaction": 0.16,
    "predictor": 0.36,
    "success": 0.1,
    "metric": 0.06,
}
"""Parts of `--minutes` that the stages get; those of stages without updates go to the others."""
LEAST = {"updates": 0, "batch": 2, "rate": 0, "weight": 0, "noise": 0, "seed": 0, "bank": 0, "processes": 1}
"""Least numbers that are accepted, by the last word of their name."""
SHARE = ("moving", "average", "held_out", "false_positives")
"""Numbers from 0 to 1."""
LATER = ("test", "false_positives", "probe_updates", "bank")
"""What counts only once a model is trained, so that the same run may be told otherwise."""
RARE = (
    "cpu_time",
    *(f"{part}_{what}" for what in ("batch", "rate") for part in SHARES),
    "interaction_horizons",
    "horizons",
    "moving",
    "reading_weight",
    "pixel_weight",
    "placing_weight",
    "token_noise",
    "rollout_noise",
    "average",
    "false_positives",
    "probe_updates",
    "split_seed",
    "bfloat16",
    "muon",
    "model",
)
"""Options that only `--help-all` shows."""
Objective = Literal["pixels", "latent", "both"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Arguments:
    """Fits a world model to recorded episodes, in stages.

    Auto-encoder (picture to tokens and back), reader (tokens to where hand and cubes are), sketch (draws the arm),
    interaction (moves hand and cubes in numbers), predictor (next tokens), success head, metric (steps still to go).
    """

    data: tuple[Path, ...]
    """Folders of the episodes, written by `python -m agents.collect`."""
    out: Path
    """Folder of the checkpoint, of metrics.json, the curves (tensorboard/) and the run's state (last/)."""
    init: str | None = None
    """Checkpoint to start from, with its architecture; None starts from random weights. With
    --autoencoder-updates 0 the embedding stays what it was, so policies keep their eyes."""
    new_predictor: bool = False
    """With --init: makes the predictor anew, by --model; all else stays what it was, as do policies that see by it."""
    autoencoder: str | None = None
    """Checkpoint whose auto-encoder is kept as it is, while the rest is made anew with --model. Here and in --init,
    "default" is the one that comes with the package."""
    kinds: str | None = None
    """Kinds of episodes to train on, separated by commas; None takes all. Those held out are of all kinds."""
    episodes: int | None = None
    """Number of episodes to draw --kinds from; None takes all but those held out."""
    objective: Objective = "pixels"
    """What the encoder learns from: drawing its pictures; predicting its own tokens, some steps ahead, together with
    the predictor, while the decoder only looks on; or both."""
    minutes: float | None = None
    """Length of the fit in minutes instead of updates; such a run cannot be repeated exactly."""
    cpu_time: bool = False
    """Counts --minutes in CPU time of this process, whatever else the machine is doing."""
    autoencoder_updates: int = 1200
    """Updates of the auto-encoder; 0 keeps that of --init."""
    reader_updates: int = 3000
    """Updates of the reader on encoded frames; 0 keeps that of --init."""
    sketch_updates: int = 800
    """Updates of a new predictor's sketch of the arm, before the rest of it."""
    interaction_updates: int = 1500
    """Updates of what moves the cubes in a predictor that is trained, before the rest of it."""
    predictor_updates: int = 2000
    """Updates of the predictor; 0 keeps that of --init."""
    success_updates: int = 6000
    """Updates of the success head; 0 keeps that of --init."""
    metric_updates: int = 2500
    """Updates of the metric; 0 keeps that of --init."""
    autoencoder_batch: int = 64
    """Pictures per update."""
    reader_batch: int = 512
    """Frames per update."""
    sketch_batch: int = 512
    """Pairs of frames per update."""
    interaction_batch: int = 2048
    """Steps of the cubes per update: windows times their length."""
    predictor_batch: int = 512
    """Predicted steps per update: windows times their length."""
    success_batch: int = 256
    """States per update, half encoded and half dreamt."""
    metric_batch: int = 512
    """Pairs of a state and a goal per update, half of the states dreamt; half as many mixed situations come to them."""
    interaction_horizons: tuple[int, ...] = (4, 8, 16, 24)
    """Lengths of the interaction's rollouts, for equal parts of the stage."""
    horizons: tuple[int, ...] = (2, 4, 8, 12)
    """Lengths of the predictor's rollouts, for equal parts of the stage."""
    recolor: int = 1
    """How often reader, predictor, success head and metric see every episode again with its cubes in other colors, 0 to
    3: what happens to a cube does not depend on its color. 0 for pictures in which more than the cubes is colored."""
    moving: float = 0.5
    """Share of the predictor's windows that are drawn from those in which a cube moves; the others are any."""
    reading_weight: float = 3.0
    """Weight of what the reader reads off predicted tokens, beside the tokens' own error."""
    pixel_weight: float = 16.0
    """Weight of pixels that differ from the background."""
    placing_weight: float = 0.3
    """Weight of what a reader reads off the encoder's tokens, beside the pictures: where hand and cubes are."""
    token_noise: float = 0.1
    """Noise on the tokens that the decoder sees."""
    rollout_noise: float = 0.05
    """Noise on the first tokens of a rollout."""
    autoencoder_rate: float = 2e-3
    """Peak learning rate of the auto-encoder."""
    reader_rate: float = 6e-3
    """Peak learning rate of the reader."""
    sketch_rate: float = 3e-2
    """Peak learning rate of the sketch."""
    interaction_rate: float = 1.2e-2
    """Peak learning rate of the interaction."""
    predictor_rate: float = 1.2e-2
    """Peak learning rate of the predictor."""
    success_rate: float = 3e-3
    """Peak learning rate of the success head."""
    metric_rate: float = 3e-3
    """Peak learning rate of the metric."""
    average: float = 0.995
    """Decay of the averaged weights that are kept."""
    held_out: float = 0.05
    """Part of the episodes that is measured on and not trained on."""
    test: Path | None = None
    """Folder of other episodes to take the final figures on; None takes the held-out ones."""
    false_positives: float = 0.015
    """Rate of false alarms in dreamt states at which success_threshold is set, in the task with the most of them; less
    than the 2 % that `agents.fidelity` asks for, as other episodes may have more."""
    probe_updates: int = 500
    """Updates of each probe of the final measurement."""
    bank: int = 300
    """Episodes per task whose starts and goals are kept beside the weights, for dreams to begin with; 0 keeps none."""
    seed: int = 0
    """Seed of weights, batches and split."""
    split_seed: int | None = None
    """Seed of the split into episodes to train on and held-out ones; None takes --seed."""
    processes: int = 1
    """Processes on this machine that share the work, with the curves of one; as many as there are idle cores. Several
    machines: `torchrun`, see docs/scaling.md."""
    threads: int | None = None
    """Threads of torch in each process; None takes two for a process that is alone, and one for each of several."""
    device: Device = "cpu"
    """Device of the updates; episodes are encoded, and the model measured, on the CPU."""
    bfloat16: bool | None = None
    """Trains in mixed precision; None does so where the processor has instructions for it, or on a GPU."""
    muon: bool = True
    """Trains matrices by Muon; False takes AdamW for everything."""
    model: StateGroundedConfig = field(default_factory=StateGroundedConfig)
    """Architecture; with --init only of a new predictor, and of the metric, which is made anew where it differs."""

    def __post_init__(self) -> None:
        """Refuses at once what would fail after hours, or spoil them without a word.

        Raises:
            ValueError: If an argument is not accepted.
        """
        check_choice("objective", self.objective, Objective)
        check_choice("recolor", self.recolor, range(len(COLORS)))
        for name, value in vars(self).items():
            low = LEAST.get(name.rpartition("_")[2])
            if low is not None and value is not None:
                check_number(name, value, low)
        for name in SHARE:
            check_number(name, getattr(self, name), high=1)
        for name, least in {"minutes": 1e-6, "episodes": 1, "threads": 1}.items():
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), least, beside="None, ")
        for name in ("horizons", "interaction_horizons"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: one length or more, each of 1 step or more")
        if self.metric_updates and not self.model.metric_dim:
            raise ValueError("metric_updates > 0 with model.metric_dim=0; accepted: 0, or a metric_dim above 0")
        if self.new_predictor and not self.init:
            raise ValueError("new_predictor=True without init; accepted: with init, whose other parts are kept")
        if self.init and self.autoencoder:
            raise ValueError(f"init={self.init} with autoencoder={self.autoencoder}; accepted: one of them")
        if not (self.autoencoder_updates or self.init or self.autoencoder):
            raise ValueError(
                "autoencoder_updates=0 leaves a new encoder as chance drew it; accepted: 1 or more, or with --init or "
                "--autoencoder"
            )

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run, JSON-able."""
        free = ("out", "processes", "threads", "device", *LATER)
        values = {name: value for name, value in asdict(self).items() if name not in free}
        paths = {name: str(getattr(self, name)) for name in ("init", "autoencoder")}
        return values | paths | {"data": [str(folder.resolve()) for folder in self.data]}

    def updates(self, stage: str) -> int:
        """Returns the updates of a stage; 0 leaves it out."""
        predicts, made = self.predictor_updates > 0, not self.init or self.new_predictor
        reads = self.model.metric_dim or self.init  # by the reader of --init
        kept = {
            "autoencoder": self.autoencoder,
            "reader": not reads,
            "sketch": not (predicts and made and self.model.sketch),
            "interaction": not predicts or (made and not (reads and self.model.interaction)),
        }
        return 0 if kept.get(stage) else int(getattr(self, f"{stage}_updates"))

    def share(self, stage: str) -> float | None:
        """Returns the minutes of a stage; None where it counts updates."""
        if self.minutes is None or not self.updates(stage):
            return None
        return self.minutes * SHARES[stage] / sum(SHARES[each] for each in SHARES if self.updates(each))

"""Command-line arguments of `agents.evolve`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import resolve_paths, split
from dream_env.checks import check_choice, check_number
from dream_env.rewards import RewardName


@dataclass(frozen=True)
class Arguments:
    """Evolves a small controller inside a learned world model, by CMA-ES."""

    out: Path
    """Folder of the controller, of tensorboard's curves, and of the run's state."""
    world_model: str = "default"
    """Checkpoint of the world model: a folder, or "default" for NICOL's, which is shipped."""
    world: Literal["dream", "real"] = "dream"
    """World to evolve in."""
    env: str | None = None
    """Id of the real environment; None takes the one that the world model knows."""
    task: str = "all"
    """Task to evolve for, "all" for a random one in each episode. NICOL's tasks differ more than one small controller
    can do: --task reach."""
    inputs: tuple[str, ...] = ()
    """What the controller looks at: parts of an observation (embedding, goal, ...), entries of the world model's state,
    or of its `features`. Nothing takes all features of a model that has some, else the whole observation."""
    obs_type: Literal["embedding", "native"] = "embedding"
    """"native" looks at what the environment itself shows in numbers, without a world model's encoder."""
    hidden: int = 0
    """Width of a hidden layer; 0 for a linear controller."""
    components: int = 0
    """Principal components of the inputs that weights are spent on, measured under random actions in the world to
    evolve in; 0 for all inputs. Few weights take few generations."""
    init: str = "none"
    """A policy whose actions the first controller is fitted to by least squares: a folder, or "default" or "bc5", which
    are shipped. "none" begins with zeros."""
    reward: RewardName | None = None
    """What pays: the sum of these rewards; "success" pays once, at the end. None takes the world's own."""
    generations: int = 100
    """Generations; a larger number evolves on."""
    population: int = 64
    """Controllers of a generation."""
    rollouts: int = 16
    """Dreams, or real episodes, of each controller; all meet the same initial states and the same noise."""
    antithetic: bool = False
    """Lets half of the dreams meet the mirrored noise of the others."""
    sigma: float = 0.1
    """Standard deviation of the weights at first; inputs have unit variance."""
    weight_decay: float = 0.01
    """Taken off a controller's mean return, times the mean square of its weights: what makes no difference stays small,
    and actions do not saturate (as in the authors' own code of Ha & Schmidhuber 2018)."""
    diagonal: bool = False
    """Adapts variances only, which is faster above some thousand weights."""
    temperature: float = 1.0
    """How far noise leads from what is likeliest: at 1 as the model believes; above 1 a dream is harder to cheat."""
    starts: Literal["episode", "any"] = "episode"
    """Where dreams begin: at episodes' starts, or 40 % of them in mid-episode."""
    initial_states: Path | None = None
    """Starts of dreams, a file of `dream_env.initial_states.InitialStates.save`; None takes the world model's."""
    max_steps: int = 1000
    """Steps after which an episode is left at the latest."""
    disagreement_penalty: float = 0.0
    """Weight with which the ensemble's disagreement is taken off the reward of dreams."""
    validate_every: int = 10
    """Generations between two evaluations of the mean on fresh seeds; the controller that is best then is kept."""
    validation_dreams: int = 1024
    """Dreams of such an evaluation; in the real world it is four times `rollouts` episodes."""
    episodes: int = 100
    """Episodes, per task, of the evaluation in both worlds at the end; 0 for none."""
    workers: int | None = None
    """Processes for real episodes; all cores by default."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the world model's products: "bfloat16" is faster where the processor has instructions for it."""
    seed: int = 0
    """Seed of all that is drawn."""
    device: str = "cpu"
    """Device of dreams and controllers."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        object.__setattr__(self, "inputs", split(self.inputs))
        if self.init.lower() == "none":
            object.__setattr__(self, "init", "none")
        check_choice("world", self.world, ("dream", "real"))
        check_choice("obs_type", self.obs_type, ("embedding", "native"))
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        for name, least in (("generations", 1), ("population", 4), ("rollouts", 1), ("max_steps", 1)):
            check_number(name, getattr(self, name), least)
        for name in ("hidden", "components", "temperature", "disagreement_penalty", "weight_decay", "episodes", "seed"):
            check_number(name, getattr(self, name))
        for name in ("validate_every", "validation_dreams"):
            check_number(name, getattr(self, name), 1)
        check_number("sigma", self.sigma, 1e-9)
        if self.workers is not None:
            check_number("workers", self.workers, 1, beside="None, or ")

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        free = ("out", "generations", "episodes", "workers", "device")
        kept = {key: value for key, value in asdict(self).items() if key not in free}
        paths = {**kept, "init": None if self.init == "none" else self.init, "inputs": list(self.inputs)}
        return resolve_paths({**paths, "initial_states": self.initial_states and str(self.initial_states)})

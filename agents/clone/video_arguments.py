"""What `agents.clone --policy video` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dream_env.agents.clone import transformer_arguments
from dream_env.agents.policies.video import Feature
from dream_env.checks import check_choice, check_number


@dataclass(frozen=True)
class Arguments(transformer_arguments.Arguments):
    """Clones a policy that imagines what will be seen, and acts to get there."""

    hindsight: float = 0.5
    """Share of every batch of the acting part that comes from all recorded episodes, whatever acted: which actions lead
    to what was seen --ahead steps later. The rest are demonstrations, whose goals are imagined."""
    ahead: int = 8
    """Control steps to what is imagined."""
    end: bool = False
    """Imagines the end of the episode as well, to be looked at."""
    videos: Literal["successes", "demonstrations"] = "successes"
    """What imagining is learned from, without a look at actions: every episode that did in the end what its sentence
    says, whoever acted, or demonstrations alone. Failures teach to imagine what nobody asked for; they serve hindsight.
    Where success was not recorded, demonstrations."""
    imagine_updates: int | None = None
    """Updates of the generator, before those of the acting part; None for as many."""
    steps: int = 4
    """Steps in which a future is generated."""
    feature: Feature = "full"
    """What is acted on: "full", the generated future, or "onepass", one pass of the generator, about the mean of the
    futures."""
    displaced: str | None = None
    """Vector of the observation whose change is the action, such as "proprio" of NICOL: its next states are generated
    as well and tell the actions, and nothing else does. None where there is no such vector, or for comparison."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        super().__post_init__()
        check_choice("feature", self.feature, Feature)
        check_choice("videos", self.videos, ("successes", "demonstrations"))
        for name in ("ahead", "steps"):
            check_number(name, getattr(self, name), 1)
        if self.imagine_updates is not None:
            check_number("imagine_updates", self.imagine_updates, 1, beside="None, ")
        if self.hindsight == 1:
            raise ValueError("hindsight=1.0; accepted: less than 1, as some demonstrations are needed")

"""Model card of a slot world model."""

from __future__ import annotations

from typing import Any

from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.run.config import command_line
from dream_env.world_models.slots.model import SlotModel


def card(args: Arguments, model: SlotModel, found: dict[str, Any]) -> str:
    """Returns the text of the model card.

    Args:
        args: Options of the fit.
        model: The fitted model.
        found: Figures of its `metrics.json`.
    """
    error, spec, without = found["pixels_off"], model.spec, model.position is None
    labels = f"Labels ({args.label!r}) of {args.labelled} episodes are read"
    if not args.labelled:
        labels = "Nothing privileged is read" if without else f"Labels were read when {args.init} was fitted"
    ahead = list(error["moved"])
    rows = [f"| {name} | " + " | ".join(str(error[name][k]) for k in ahead) + " |" for name in error]
    lines = [
        f"# World model of {spec.name}, {'without' if without else 'with a few'} labels",
        "",
        f"- Command: `{command_line('fit', args)}`",
        f"- Data: {found['episodes']['train']} episodes, {found['frames']} frames; measured on "
        f"{found['episodes']['held_out']} held-out ones. Pictures, states, actions"
        + (", sentences" if spec.instructions else "")
        + f". {labels}.",
        f"- Slots: {len(found['slots']['colors'])}, colors {found['slots']['colors']}",
        f"- Parameters: {found['parameters']:,}; {found['wall_minutes']} minutes",
        "",
        "Median open-loop error of slots in pixels, predicted from the first frame only.",
        "",
        "| steps ahead | " + " | ".join(ahead) + " |",
        "|" + "---|" * (len(ahead) + 1),
        *rows,
        "",
    ]
    if "steps_rank" in found:
        lines.append(f"- Rank correlation of the distance to the goal with the steps to go: {found['steps_rank']}")
    if "labelled" in found:
        lines.append(
            "- Positions: share of labelled objects that were matched to a slot {paired}; median error {off} m, on the "
            "labelled training episodes themselves".format(**found["labelled"])
        )
    if "success" in found:
        lines.append(
            "- Success prediction for final states: true positive rate {found}, false positive rate {false}; with "
            "another episode's goal, {other_goal} of the successes are still predicted".format(**found["success"])
        )
    return "\n".join([*lines, ""])

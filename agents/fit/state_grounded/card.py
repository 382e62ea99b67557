"""The card of a fitted world model."""

from __future__ import annotations

from typing import Any

from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.run.config import command_line


def card(args: Arguments, figures: dict[str, Any]) -> str:
    """Returns the text of a checkpoint's card: command, data, seed and measured figures."""
    errors, success = figures["open_loop_error"], figures["success"]
    steps = list(errors["predicted"])
    known = f", which {args.init} may have been trained on" if args.init and not args.test else ""
    lines = [
        "# World model of NicoLDream-v0",
        "",
        f"- Command: `{command_line('fit', args)}`",
        f"- Data: `{', '.join(map(str, args.data))}`, {figures['episodes']['train']} episodes; measured on "
        f"{figures['episodes']['held_out']} held-out ones{known}. Seed {args.seed}.",
        f"- Parameters: {figures['parameters']:,}",
        "",
        "Open-loop error divided by the variance, from the first frame:",
        "",
        "| steps ahead | " + " | ".join(map(str, steps)) + " |",
        "|" + "---|" * (len(steps) + 1),
    ]
    for name in ("predicted", "copied"):
        lines.append(f"| {name} | " + " | ".join(f"{errors[name][h]:.3f}" for h in steps) + " |")
    lines += ["", "Positions estimated by probes on the latent state, median error on held-out episodes (cm):", ""]
    for name in ("target_probe_cm", "hand_probe_cm"):
        lines.append(f"- {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in figures[name].items()))
    lines += ["", f"Success head at threshold {success['threshold']:.3f}:", ""]
    for name in sorted(success.keys() - {"threshold"}):
        lines.append(f"- {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in success[name].items()))
    if figures["metric"]:
        lines += ["", "Learned metric, distance to the goal picture compared with true steps to go:", ""]
        for name, row in figures["metric"].items():
            lines.append(f"- {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()))
    speed = ", ".join(f"{v:,.0f} at {k}" for k, v in figures["steps_per_cpu_second"].items())
    return "\n".join([*lines, "", f"Predicted steps per CPU second, by batch size: {speed}.", ""])

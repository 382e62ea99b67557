"""`python -m agents.fit`: `--model` names the kind of world model, NICOL's by default."""

import argparse
import sys
from importlib import import_module

FITTERS = {
    "state_grounded": "dream_env.agents.fit.command",
    "dynamics": "dream_env.agents.fit.dynamics_fit",
}
"""Module of the command that fits each kind; its other arguments are its own."""


def main() -> None:
    """Runs the command of a kind."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog="python -m agents.fit")
    parser.add_argument("--model", choices=FITTERS, default="state_grounded")
    chosen, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    import_module(FITTERS[chosen.model]).main()


if __name__ == "__main__":
    main()

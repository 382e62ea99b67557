"""Runs `python -m agents.evolve`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("evolve")

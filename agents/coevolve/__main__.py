"""Runs `python -m agents.coevolve`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("coevolve")

"""Runs `python -m agents.plan`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("plan")

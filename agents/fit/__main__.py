"""Entry point of `python -m agents.fit`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("fit")

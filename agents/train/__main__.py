"""Entry point of `python -m agents.train`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("train")

"""Entry point of `python -m agents.demo`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("demo")

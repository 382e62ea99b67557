"""`python -m agents.studies.imagined`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.imagined")

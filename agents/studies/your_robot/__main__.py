"""`python -m agents.studies.your_robot`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.your_robot")

"""`python -m agents.studies.practice_rewards`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.practice_rewards")

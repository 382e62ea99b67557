"""`python -m agents.studies.reward_audit`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.reward_audit")

"""`python -m agents.studies.goal_tasks`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.goal_tasks")

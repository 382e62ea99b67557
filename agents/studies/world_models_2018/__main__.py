"""`python -m agents.studies.world_models_2018`."""

from dream_env.agents.run.cli import command

if __name__ == "__main__":
    command("studies.world_models_2018")

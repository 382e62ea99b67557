"""`python -m agents.studies.general`."""

from dream_env.agents.studies.general.command import main

if __name__ == "__main__":
    main()

"""`python -m agents.experiment`."""

from dream_env.agents.experiment.command import main

if __name__ == "__main__":
    main()

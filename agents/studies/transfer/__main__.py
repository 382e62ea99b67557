"""`python -m agents.studies.transfer`."""

from dream_env.agents.studies.transfer.command import main

if __name__ == "__main__":
    main()

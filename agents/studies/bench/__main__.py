"""`python -m agents.studies.bench`."""

from dream_env.agents.studies.bench.command import main

if __name__ == "__main__":
    main()

"""`python -m agents.bench`."""

from dream_env.agents.bench.command import main

if __name__ == "__main__":
    main()

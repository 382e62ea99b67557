"""`python -m agents.fit`."""

from dream_env.agents.fit.command import main

if __name__ == "__main__":
    main()

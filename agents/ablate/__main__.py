"""`python -m agents.ablate`."""

from dream_env.agents.ablate.command import main

if __name__ == "__main__":
    main()

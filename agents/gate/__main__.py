"""`python -m agents.gate`."""

from dream_env.agents.gate.command import main

if __name__ == "__main__":
    main()

"""`python -m agents.fidelity`."""

from dream_env.agents.fidelity.command import main

if __name__ == "__main__":
    main()

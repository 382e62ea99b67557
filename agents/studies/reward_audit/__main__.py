"""`python -m agents.studies.reward_audit`."""

from dream_env.agents.studies.reward_audit.command import main

if __name__ == "__main__":
    main()

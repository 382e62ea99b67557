"""`python -m agents.studies.ablation`."""

from dream_env.agents.studies.ablation.command import main

if __name__ == "__main__":
    main()

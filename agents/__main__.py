"""Lists the commands, or runs one of them: `python -m agents COMMAND ...`."""

from dream_env.agents.run.cli import main

if __name__ == "__main__":
    main()

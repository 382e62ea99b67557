"""Lists the commands, and runs one: `python -m agents COMMAND ...`."""

from dream_env.agents.run.cli import main

if __name__ == "__main__":
    main()

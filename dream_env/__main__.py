"""Lists the commands, and runs one: `python -m dream_env COMMAND ...`."""

from importlib import import_module

if __name__ == "__main__":
    import_module("dream_env.agents.run.cli").main()

"""Command line: `python -m dream_env` lists the commands, `python -m dream_env COMMAND ...` runs one."""

from importlib import import_module

if __name__ == "__main__":
    import_module("dream_env.agents.run.cli").main()

"""Kinds of world models that `agents.fit --model KIND` fits: their modules of arguments and of the command."""

KINDS = {
    "state_grounded": ("dream_env.agents.fit.state_grounded.arguments", "dream_env.agents.fit.state_grounded.command"),
    "dynamics": ("dream_env.agents.fit.dynamics_arguments", "dream_env.agents.fit.dynamics_fit"),
}
"""The first one is the default."""

"""World model and policy in one network: a shared trunk with a dynamics stream and an action stream.

`model` is the world model, `config` its configuration, `tokens` converts states of the base models to tokens, and `net`
is the network. The policy that a checkpoint also contains is `dream_env.agents.policies.unified`.
"""

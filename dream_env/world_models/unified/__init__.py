"""World model and policy in one network: a shared trunk reads the state, one stream acts, one foresees.

`model` is the world model; `config` its shape; `tokens` how states of other kinds become tokens, and `net` the network.
The policy of the same folder is `dream_env.agents.policies.unified`.
"""

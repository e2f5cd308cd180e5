"""The world with drifting values, its shard agents, and the ideal observer of their histories.

`world` CookieWorld itself; `shard` the equations of one shard; `planning` what an agent expects of
its own day; `agent_state` one agent's state and update; `population` agents as a source algorithm;
`observer` the particle filter; `anatomy` arrays for figures.
"""

"""CookieWorld: the world with drifting values, the shard agents that live in it, and the ideal observer."""

"""The durable inbox: what was acknowledged, and what became of it."""

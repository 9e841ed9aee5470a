"""Custom functions: what an agent calls in the middle of a conversation."""

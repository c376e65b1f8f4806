"""The client: verify a service, seal to it, open its answers."""

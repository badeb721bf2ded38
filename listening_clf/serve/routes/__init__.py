"""What the service answers to, a module a protocol."""

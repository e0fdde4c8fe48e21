"""Advertising the server on the local network by zeroconf, and choosing the interfaces and addresses for it."""

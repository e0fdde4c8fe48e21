"""What the tests and the benchmarks both need: simple engines, a checkpoint of random weights, servers and clients.

Nothing of it is loaded by the server.
"""

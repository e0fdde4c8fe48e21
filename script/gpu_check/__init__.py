"""What `script/gpu-check` checks on an NVIDIA GPU: what no test can see without one.

    command.py   the command line: the weights, the checks, the benchmark's rows, within ten minutes
    runner.py    the process that loads the engine and does the checks
    checks.py    the checks, in their order
    record.py    what was found, as a table and as JSON that is complete after every check

`script/benchmarks/` has what both share: the weights, the machine, the rows of a GPU.
"""

"""What `script/bench` measures: our decoder beside upstream's, the seams, a GPU's throughput, the server's sockets.

    command.py       the command line: which parts, in which order, what is printed and written
    checkpoint.py    the weights: the given ones, or random ones of full size, kept in a cache
    comparison.py    every decoder in a process of its own, one after the other, and what comes of it
    runner.py        that process: load, warm up, speak; job.py is what it is told
    probes.py        what looks into a decoder while it speaks: tokens, stages, memory
    playback.py      what a listener hears in time: underruns
    seams.py         what a listener hears at the joins: levels and log-mel distances
    concurrency.py   several utterances in turns on a GPU
    sockets.py       the server from outside, through its socket
    plot.py          the time lines as a PNG
    report.py        tables for people
    machine.py       what it was measured on; device.py: where torch would run
    progress.py      what is going on, on stderr; errors.py: what a user can do something about

Definitions of the figures are in the docstrings of `comparison.py`, `playback.py` and `seams.py`.
"""

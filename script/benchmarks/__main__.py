"""`python -m script.benchmarks` is `script/bench` without the set-up."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

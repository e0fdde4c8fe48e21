"""`python -m script.gpu_check`: in an environment of one's own, which must have the packages."""

import sys

from .command import main

sys.exit(main(sys.argv[1:]))

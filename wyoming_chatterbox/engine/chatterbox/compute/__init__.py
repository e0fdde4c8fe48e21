"""How the work is computed on this machine: the plan, threads, placement, kernels chosen by timing, and CUDA graphs."""

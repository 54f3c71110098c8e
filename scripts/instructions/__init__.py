"""The parts of scripts/count_instructions: instructions of kernels, which are the same on a busy machine and on an idle one.

calls    each kernel is called once under valgrind's callgrind, from a C program without TVM (runner.c)
loops    the instructions of the innermost loop are counted in the assembly, also for CPUs that neither this machine nor valgrind knows
"""

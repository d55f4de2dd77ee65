"""What a node has: GPUs as NVML tells them, their device nodes and driver libraries, CPUs, memory, runtimes."""

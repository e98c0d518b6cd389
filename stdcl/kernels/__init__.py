"""C kernels for float32 on CPUs, a folder per operation: the kernel, its plain PyTorch reference, and one interface.

``OPERATION/__init__.py`` is the interface, which chooses: the kernel where it was built and takes the tensors,
``OPERATION/reference.py`` everywhere else (GPUs, other number types, no compiler, no AVX-512). Both give the same
results up to rounding.
"""

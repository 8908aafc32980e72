"""What exists for speed alone: the values and gradients of plain definitions, faster on CPUs.

A kernel is given the definition, or is a few lines that replace one; ops and layers choose it in one line. To
read a model nobody needs to read kernels. They know nothing of the package but its types.
"""

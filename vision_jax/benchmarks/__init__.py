"""Speed and memory, alone and beside peers: what `vision-jax benchmark` measures, case by case."""

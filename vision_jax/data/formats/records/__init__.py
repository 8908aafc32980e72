"""Data sets as array_record shards, which `vision-jax convert-data` writes."""

"""Data sets as array_record shards, which `vision-jax convert-data` writes.

    records:DIR      the task that they were written for; what is for instances also serves detection

No options.
"""

from vision_jax.data.format import Format, Opener
from vision_jax.data.formats.records.folder import open_records

FORMATS = {"records": Format({}, stored=Opener(open_records))}

"""Data as records in array_record shards: the files, the pictures in them, and what their sources share."""

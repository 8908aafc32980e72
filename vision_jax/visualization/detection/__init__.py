"""Pictures of boxes and instance masks."""

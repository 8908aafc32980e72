"""Images and masks between bytes and arrays."""

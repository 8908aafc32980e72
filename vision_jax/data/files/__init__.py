"""Files and folders: what is listed, which splits there are, and which program wrote them."""

"""The task families of this project, a file each: how their data are read, checked and stored."""

"""Errors that are for people."""


class UserError(Exception):
    """Something outside the program is wrong: a file, a folder, an option, a disk.

    The message says what is wrong, in which file or field, and what to do; the command line prints
    it alone, without a traceback.
    """

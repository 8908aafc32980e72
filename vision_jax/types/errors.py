"""Errors that the user can fix."""


class UserError(Exception):
    """Something outside the program is wrong: a file, a folder, an option, a disk.

    The message says what is wrong, in which file or field, and what to do; the command line prints
    the message alone, without a traceback.
    """

"""The one exception that stands for a mistake a user can make and mend."""


class UserError(Exception):
    """What is wrong, where (file and key), and what is allowed: one line, no traceback.

    The command line and the Snakefile print it as it is and exit with code 1.
    """

"""What the command says when it cannot go on."""


class BadInput(Exception):
    """One clear sentence for standard error; the command ends with status 2."""

"""The one error of this package."""


class DataError(ValueError):
    """Data that cannot be used: a sentence that names the file, what was expected and what came."""

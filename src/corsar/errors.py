"""What corsar raises when the input is at fault: one sentence that says what is wrong and what to do."""


class CorsarError(Exception):
    """Base of the errors that a person can mend; the command line prints them and exits with 2."""


class ConfigError(CorsarError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(CorsarError):
    """A table or a dataset directory is not what it should be."""


class ArtifactError(CorsarError):
    """A run or an artifact is missing, damaged or of another version."""

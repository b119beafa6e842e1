"""The few exceptions that momentary raises; every message names the value and the remedy."""


class MomentaryError(Exception):
    """Anything that the caller can mend; the message says how."""


class DataError(MomentaryError):
    """A file, a row or a field is not what it should be."""


class SettingsError(MomentaryError):
    """A setting is unknown or has a value that cannot work."""


class StorageError(MomentaryError):
    """A database or its disk gives or takes nothing now; nothing was changed, so try again."""


class LeakError(MomentaryError):
    """Training data would contain what the test asks about."""


class ArtifactError(MomentaryError):
    """A saved model is missing, damaged or of another version."""


class NotFittedError(MomentaryError):
    """A model was asked to score before it was fitted."""

"""The version of the package, and of the records it writes."""

__version__ = "0.1.0"

# Of all records and of what --json prints: raised when a reader of the old form would fail.
SCHEMA_VERSION = 1

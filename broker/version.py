"""The one place that states the version: the package metadata, `--version` and connection.start's server-properties
read it here."""

from typing import Final

VERSION: Final = "0.1.0"

"""The release, read by the build and by `envelope version`."""

__version__ = "0.1.0"

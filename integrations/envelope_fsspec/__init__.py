"""The file system ``envelope``: encryption for every tool that takes fsspec URLs.

docs/filesystem.md has the promises. :mod:`envelope_fsspec.filesystem` is the
class that fsspec finds by its entry point; beside it each module does one thing:
options, rules, what is known of stored files, reading, writing.
"""

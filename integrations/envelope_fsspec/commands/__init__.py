"""The commands that this package adds, by the entry-point group ``envelope.commands``."""

"""The command line (docs/cli.md).

A command parses, calls one verb, and prints what came of it. What commands
share has rooms of its own: ``app`` finds them, ``signatures`` and ``options``
give them their options, ``output`` prints, ``trees`` walks folders, ``batch``
runs several inputs.
"""

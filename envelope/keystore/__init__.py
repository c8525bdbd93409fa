"""The embedded keystore: `local:NAME` and `public:FILE.pem`. docs/keystore.md is its specification.

Found by entry point like any other driver; no module of the core imports it.
"""

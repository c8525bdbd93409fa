"""What programs test against instead of a vendor's service, reached as ``envelope.testing``.

:mod:`envelope_testing.keyvault` is a local Azure Key Vault and Managed HSM that the vendor's own
SDKs talk to without knowing. The keys in it are real, and are gone when the process ends.
"""

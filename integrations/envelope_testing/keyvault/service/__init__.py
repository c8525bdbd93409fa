"""The data plane of Key Vault and Managed HSM, as an ASGI application."""

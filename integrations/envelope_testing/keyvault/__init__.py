"""A local Azure Key Vault and Managed HSM that the vendor's own SDKs talk to without knowing.

::

    with LocalKeyVault() as keyvault:
        keyvault.vault("acme")
        subprocess.run([...], env={**os.environ, **keyvault.environment()})

In tests, the fixture ``keyvault`` does this for the test's own process. From a shell,
``envelope testing keyvault`` does. Installed by ``pip install 'envelope-encryption[testing]'``.
"""

try:
    import jwt
    import starlette
    import uvicorn
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the local Key Vault needs {error.name}: pip install 'envelope-encryption[testing]'",
        name=error.name,
    ) from error

from .local import DEVELOPER, VARIABLES, Credential, LocalKeyVault
from .tokens import TokenRejected, Tokens
from .world import (
    DEFAULT_TENANT,
    Call,
    Clock,
    Fault,
    Faults,
    Network,
    Principal,
    Throttle,
    Vault,
    World,
)

__all__ = [
    "DEFAULT_TENANT",
    "DEVELOPER",
    "VARIABLES",
    "Call",
    "Clock",
    "Credential",
    "Fault",
    "Faults",
    "LocalKeyVault",
    "Network",
    "Principal",
    "Throttle",
    "TokenRejected",
    "Tokens",
    "Vault",
    "World",
]

del jwt, starlette, uvicorn

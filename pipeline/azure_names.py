"""The names of a place on Azure: Hadoop's ``container@account`` and what pyarrow takes it for.

pyarrow reads ``abfs://container@account.blob...`` as a place without its container, and knows no ``wasb``.
``abfs://account@container`` is the one form that it reads as it is meant, for every account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEMES = ("abfs", "abfss", "wasb", "wasbs")
_ENDPOINT = re.compile(r"(?P<account>[\w-]+)\.(?:dfs|blob)\.(?P<domain>[\w.-]+)")
_CONTAINER = re.compile(r"[\w$-]+")
_DOMAIN = "core.windows.net"


@dataclass(frozen=True)
class AzurePlace:
    """A place on Azure, however its URI was written.

    Parameters
    ----------
    account, domain, container, path, query : str
    password : str
        The account's key, as the URI wrote it; empty for none.
    """

    account: str
    domain: str
    container: str
    path: str
    query: str
    password: str

    def for_hadoop(self, scheme: str) -> str:
        """Return the URI that Spark takes, without the password."""
        kind = "blob" if scheme.startswith("wasb") else "dfs"
        asked = f"?{self.query}" if self.query else ""
        return f"{scheme}://{self.container}@{self.account}.{kind}.{self.domain}/{self.path}{asked}"

    def for_pyarrow(self) -> str:
        """Return the URI that pyarrow takes."""
        query = [self.query] if self.query else []
        if self.domain != _DOMAIN:
            query += [f"{kind}_storage_authority=.{kind}.{self.domain}" for kind in ("blob", "dfs")]
        user = f"{self.account}:{self.password}" if self.password else self.account
        return f"abfs://{user}@{self.container}/{self.path}{'?' if query else ''}{'&'.join(query)}"


def read_azure_name(uri: str) -> AzurePlace | None:
    """Read a URI of Azure.

    Parameters
    ----------
    uri : str

    Returns
    -------
    AzurePlace or None
        None for other stores, and for a server that is no account of Azure's.

    Examples
    --------
    >>> read_azure_name("wasbs://box@lake.blob.core.windows.net/docs").for_hadoop("abfs")
    'abfs://box@lake.dfs.core.windows.net/docs'
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES:
        return None
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    user, _, host = authority.rpartition("@")
    name, _, password = user.partition(":")
    endpoint = _ENDPOINT.fullmatch(host)
    if endpoint is not None and not name:
        name, _, path = path.partition("/")
    elif endpoint is None and "." not in host and name:
        # pyarrow's own form: the account stands where Hadoop has the container.
        endpoint, name = _ENDPOINT.fullmatch(f"{name}.dfs.{_DOMAIN}"), host
    if endpoint is None or not _CONTAINER.fullmatch(name):
        return None
    return AzurePlace(endpoint["account"], endpoint["domain"], name, path, query, password)

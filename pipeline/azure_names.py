"""URIs of Azure storage, as Hadoop and as pyarrow write them.

Hadoop writes ``abfs://container@account.dfs...``. pyarrow ignores that container, and doesn't know ``wasb``.
It reads only ``abfs://account@container`` correctly for every account.
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
    """The parts of a URI of Azure storage.

    Parameters
    ----------
    account, domain, container, path, query : str
    password : str
        The account's key, escaped as in the URI; empty without one.
    """

    account: str
    domain: str
    container: str
    path: str
    query: str
    password: str

    def for_hadoop(self, scheme: str) -> str:
        """Return the URI for Spark, without the password."""
        kind = "blob" if scheme.startswith("wasb") else "dfs"
        asked = f"?{self.query}" if self.query else ""
        return f"{scheme}://{self.container}@{self.account}.{kind}.{self.domain}/{self.path}{asked}"

    def for_pyarrow(self) -> str:
        """Return the URI for pyarrow, password included."""
        query = [self.query] if self.query else []
        if self.domain != _DOMAIN:
            query += [f"{kind}_storage_authority=.{kind}.{self.domain}" for kind in ("blob", "dfs")]
        user = f"{self.account}:{self.password}" if self.password else self.account
        return f"abfs://{user}@{self.container}/{self.path}{'?' if query else ''}{'&'.join(query)}"


def read_azure_name(uri: str) -> AzurePlace | None:
    """Parse a URI of Azure storage; return None for other stores, and for servers outside Azure.

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
        # pyarrow's form: the account in the place of Hadoop's container.
        endpoint, name = _ENDPOINT.fullmatch(f"{name}.dfs.{_DOMAIN}"), host
    if endpoint is None or not _CONTAINER.fullmatch(name):
        return None
    return AzurePlace(endpoint["account"], endpoint["domain"], name, path, query, password)

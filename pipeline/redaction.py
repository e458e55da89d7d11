"""What may be shown and recorded: the one rule that hides secrets, wherever they stand."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# Words of a key that holds a secret. Java reads the same pattern as Spark's own redaction rule.
KEY_PATTERN = (
    r"(?i)secret|passw|passphrase|(?<![a-z])pwd|credential|token(?!i[sz]|s(?![a-z])|_id)|signature|jaas"
    r"|private|bearer|(?<![a-z])(?:sas|sig|pass|pat|key)(?![a-z])|cookie"
    r"|(?:access|account|api|auth|client|crypt\w*|encryption|master|secret|shared|sign\w*|storage)[._-]?key"
    r"|auth(?!or(?!i[sz]))"
)
# Spark's own properties name keys and tokens that are no secrets, such as spark.sql.mapKeyDedupPolicy.
_HARMLESS_KEY = re.compile(r"(?i)spark\.(?:sql|kubernetes\.authenticate)\.(?!.*(?:secret|passw|token))")
_HARMLESS_VALUE = re.compile(r"(?i)true|false|none|null|\d{0,4}")
_IS_SECRET = re.compile(KEY_PATTERN)

# In a query, a JDBC URL, a JAAS string or a list of properties. Only unmistakable words count in prose.
_ASSIGNED = re.compile(
    r"""(?ix)
    (?P<key> (?<![\w.-]) [\w.-]*?
        (?: secret | passw (?:or)? d | passphrase | (?<![a-z]) pwd | credentials? | signature
          | (?:access|account|api|private|shared|secret)[._-]?key | (?<![a-z]) (?:sas|sig) (?![a-z])
          | (?:access|auth|bearer|hub|id|refresh|sas|security|session)[._-]?token | (?<![\w]) token (?![\w])
          | sharedaccess\w* | jaas[.]config )
        [\w.-]*? ["']? \s* (?: = | : (?!//) ) \s* )
    (?P<value> "[^"]*" | '[^']*' | [^\s&;,"'(){}\[\]]+ )
    """
)
_ALONE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<!\w)(?:hf_\w{16,}|gh[opsu]_\w{20,}|dapi[0-9a-f]{32}|xox[abp]-[\w-]{10,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]{8,}",
    re.DOTALL,
)
# A secret key of AWS may hold slashes, and nothing makes people escape them: all up to the last @ goes.
_PASSWORD = re.compile(r"://[^\s/@:]*:[^\s]*@")
_USER = re.compile(r"://[^/@\s]+@")
# Before the @ of an Azure name stands its container.
_CONTAINER = re.compile(r"(?i)(?:abfss?|wasbs?)$")

_known: set[str] = set()
_SHORTEST_KNOWN = 6


def redact(text: str) -> str:
    """Return a path, URI or message as it may be shown and recorded.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        With ``***`` in place of user and password inside URIs, of what is assigned to a secret's name, of
        private keys and tokens, and of the secrets that `remember` was told.

    Examples
    --------
    >>> redact("s3://key:se/cret@bucket/lake"), redact("lake/docs")
    ('s3://***@bucket/lake', 'lake/docs')
    >>> redact("jdbc:postgresql://h/db?user=u&password=p"), redact("abfs://box@account/lake?sig=x")
    ('jdbc:postgresql://h/db?user=u&password=***', 'abfs://box@account/lake?sig=***')
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _PASSWORD.sub(f"://{MASK}@", text)
    text = _USER.sub(_mask_user, text)
    text = _ASSIGNED.sub(lambda found: found["key"] + _mask_quoted(found["value"]), text)
    return _ALONE.sub(MASK, text)


def is_secret(key: str, value: str) -> bool:
    """Say whether the value of an option or property must not be shown.

    Parameters
    ----------
    key, value : str

    Returns
    -------
    bool
        True for every key that looks like a secret's, known or not, unless its value can be none.

    Examples
    --------
    >>> is_secret("fs.azure.sas.fixed.token.account", "x"), is_secret("header", "true")
    (True, False)
    """
    if not _IS_SECRET.search(_split_words(key)) or _HARMLESS_VALUE.fullmatch(value):
        return False
    return not _HARMLESS_KEY.match(key)


def redact_values(content: Any, key: str = "") -> Any:
    """Hide secrets in settings or in what was recorded of them.

    Parameters
    ----------
    content : dict, list, str or another value
    key : str, default=""
        Name of the option or property that holds it.

    Returns
    -------
    The same type
    """
    if isinstance(content, dict):
        return {name: redact_values(value, name) for name, value in content.items()}
    if isinstance(content, list):
        return [redact_values(value, key) for value in content]
    if isinstance(content, str):
        return MASK if key and is_secret(key, content) else redact(content)
    return content


def remember(content: Any, key: str = "") -> None:
    """Learn the secrets of a run, so that `redact` finds them wherever a message repeats a part of them.

    Parameters
    ----------
    content : dict, list, str or another value
        Settings before they are redacted.
    key : str, default=""
        Name of the option or property that holds it.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            remember(value, name)
    elif isinstance(content, list):
        for value in content:
            remember(value, key)
    elif isinstance(content, str):
        found = [content] if key and is_secret(key, content) else []
        found += [password[3:-1].partition(":")[2] for password in _PASSWORD.findall(content)]
        found += [match["value"].strip("\"'") for match in _ASSIGNED.finditer(content)]
        # What follows a slash is what Java takes for the path.
        parts = [part for secret in found for part in (secret, *secret.split("/"))]
        _known.update(part for part in parts if len(part) >= _SHORTEST_KNOWN and part != MASK)


def _mask_user(found: re.Match[str]) -> str:
    is_container = _CONTAINER.search(found.string[: found.start()]) is not None
    return found[0] if is_container else f"://{MASK}@"


def _mask_quoted(value: str) -> str:
    return f"{value[0]}{MASK}{value[0]}" if value[0] in "\"'" else MASK


def _split_words(key: str) -> str:
    """Write accountKey as account_Key, so that words begin where people begin them."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)

"""Hide secrets in everything that lakevec prints or records.

A secret is recognised by its option's name (``fs.azure.sas.fixed.token.account``), or by its shape inside
other text (``s3a://key:secret@bucket``, ``;password=...``, ``-----BEGIN PRIVATE KEY-----``). A value is
masked even if its name only resembles a secret's, since a masked harmless value costs little.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from lakevec.pipeline import azure_names

MASK = "***"

_SURE = (
    r"secret|passw|passphrase|passcode|pwd|token(?!i[sz]|s(?![a-z])|_id)|credential|jaas|signature|bearer|jwt|cookie"
    r"|(?:private|access|account|shared|api|encryption)[._-]?key|sharedaccess|(?<![a-z])(?:sig|sas)(?![a-z])"
)
_LIKELY = (
    r"key(?!word|space|board)|auth(?!or(?!i[sz]))|sig(?![a-z])|sas(?![a-z])|pass(?![a-z])|cred|private"
    r"|(?<![a-z])(?:pat|pem)(?![a-z])|conn(?:ection)?[._-]?str"
)
# Java must understand it, since it becomes Spark's redaction rule. Some groups of Spark's properties are left
# out, since their keys aren't secrets, such as spark.sql.mapKeyDedupPolicy.
KEY_PATTERN = rf"(?i)(?:{_SURE})|^(?!spark[.](?:sql|kubernetes[.]authenticate)[.]).*(?:{_LIKELY})"
# For the plans that Spark prints and logs.
PLAN_PATTERN = (
    r"(?i)(?<=://)[^/@\s]*:[^@\s]*@"
    rf"|(?<![\w.%/-])[\w.-]{{0,100}}(?:{_SURE})[\w.-]*+=[^\s&;,\])]+"
    rf"|(?<=[?&;])[\w.-]{{0,100}}(?:{_LIKELY})[\w.-]*+=[^\s&;,\])]+"
)
_IS_SURE = re.compile(rf"(?i){_SURE}")
_IS_SECRET = re.compile(KEY_PATTERN)
_HARMLESS = re.compile(r"(?i)(?:true|false|none|null)?")
_HARMLESS_NUMBER = re.compile(r"\d{1,4}")

# NAME=VALUE, NAME:VALUE and "NAME": "VALUE"; a URL may escape the signs. Paths such as lake/token=5 and
# sentences look alike, so only unmistakable names of secrets count there.
_GIVEN = (
    r"(?i)(?P<given>"
    rf"(?:(?<![\w.%/-])|(?<=%3F|%26|%3B))[\w.-]{{0,100}}(?:{_SURE})[\w.-]*+"
    r"|(?<![\w.%-])[\w.-]{0,100}(?:passw|pwd|secret)[\w.-]*+"
    rf"|(?:\A|(?<=[?&;,])|(?<=%3F|%26|%3B))[\w.-]{{0,100}}(?:{_LIKELY})[\w.-]*+"
    r")(?P<equals>\s*=\s*|%3D|\\*[\"']\s*[:=]\s*|:(?=[^\s/:]))"
)
# A mask from an earlier call is a value, too.
_QUOTED = (
    r"\*{3}(?![^\s&;,\"'}\])])|(?P<quote>\\*[\"'])(?:\\[^\"']|(?!(?P=quote)).)*(?P=quote)|\{(?:[^}]|\}\})*\}"
)
_NEXT = r"[&;,]\s*[\w.%-]+=|%26|%3B"
# In a sentence a value ends with its word, without the quotes and brackets that follow.
_GIVEN_IN_TEXT = re.compile(
    rf"{_GIVEN}(?P<value>{_QUOTED}|\S*?(?=[)\]}}'\",.:;]*(?:\s|\Z)|{_NEXT}))", re.DOTALL
)
# Alone, as in a setting, a value may hold blanks.
_GIVEN_ALONE = re.compile(rf"{_GIVEN}(?P<value>{_QUOTED}|.*?(?={_NEXT}|\Z))", re.DOTALL)
# As on a command line: --password VALUE
_OPTION = re.compile(
    rf"(?i)(?<!\S)(?P<given>--?[\w.-]{{0,100}}(?:{_SURE})[\w.-]*+)(?P<equals>\s+)(?!-)(?P<value>\S+)"
)

_PEM = re.compile(
    r"(?i)-----BEGIN(?P<blank>[ +]|%20)[\w +%]{0,80}?PRIVATE(?P=blank)KEY.*?(?:-----END.*?-----|\Z)",
    re.DOTALL,
)
_AUTHORIZATION = re.compile(
    r"(?i)(?P<given>\bauthorization\\?[\"']?(?:\s*[:=]\s*|%3D|%3A)\\?[\"']?)(?:\w+(?:\s+|%20))?[^\s\"';]+"
)
_BEARER = re.compile(r"(?i)(?P<given>\bbearer(?:\s+|%20))[\w.~+/=-]{6,}")
# Recognised by their first letters: Hugging Face, GitHub, GitLab, Databricks, Google, AWS, Slack, JWT.
_KNOWN_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[opsru]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|dapi[0-9a-f]{24,}"
    r"|AIza[\w-]{24,}|ya29\.[\w-]{16,}|A[KS]IA[A-Z0-9]{12,}|xox[a-z]-[\w-]{12,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
_ORACLE_USER = re.compile(r"(?i)(?P<given>jdbc:oracle:\w+:)[^/@\s]*/(?P<value>[^@\s]*)@")
_ENCODED_USER = re.compile(r"(?i)(?P<given>%3A%2F%2F)(?:(?!%40|%3A)\S){0,200}%3A\S{0,300}%40")
_URI_IN_TEXT = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20})://(?P<rest>\S+)")
_URI_ALONE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20})://(?P<rest>.+)", re.DOTALL)
# In hf://repository@revision, the part before the @ is no user.
_HUB = "hf"
_PORT = re.compile(r"[^/:@]*:\d{1,5}\Z")

_known: set[str] = set()
_SHORTEST_KNOWN = 6
_NAMES_FILE = re.compile(r"file|path|location|keytab|store|dir", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace secrets in a path, URI or message by ``***``.

    Secrets are users and passwords in URIs, values assigned to a secret's name, private keys, tokens, and
    everything that `remember` has seen.

    Examples
    --------
    >>> redact("s3://key:se/cret@bucket/lake"), redact("lake/docs")
    ('s3://***@bucket/lake', 'lake/docs')
    >>> redact("jdbc:postgresql://h/db?user=u&password=p"), redact("abfs://box@account/lake?sig=x")
    ('jdbc:postgresql://h/db?user=u&password=***', 'abfs://box@account/lake?sig=***')
    """
    return _redact(text, _GIVEN_IN_TEXT, _URI_IN_TEXT)


def is_secret(key: str, value: str) -> bool:
    """Return whether to hide an option's value: the key resembles a secret's, and the value may be one.

    Examples
    --------
    >>> is_secret("fs.azure.sas.fixed.token.account", "x"), is_secret("header", "true")
    (True, False)
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)  # accountKey becomes account_Key
    if _HARMLESS.fullmatch(value) or not _IS_SECRET.search(name):
        return False
    return _IS_SURE.search(name) is not None or _HARMLESS_NUMBER.fullmatch(value) is None


def redact_values(content: Any, key: str = "") -> Any:
    """Return settings, or a record of them, with secrets replaced; `key` names the option that holds them."""
    if isinstance(content, dict):
        return {name: redact_values(value, f"{key}.{name}".lstrip(".")) for name, value in content.items()}
    if isinstance(content, list):
        return [redact_values(value, key) for value in content]
    if isinstance(content, str):
        return MASK if key and is_secret(key, content) else _redact(content, _GIVEN_ALONE, _URI_ALONE)
    return content


def remember(content: Any, key: str = "") -> None:
    """Remember the secrets in settings, so that `redact` finds them in any message."""
    if isinstance(content, dict):
        for name, value in content.items():
            remember(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            remember(value, key)
    elif isinstance(content, str):
        # The name of a key file is no secret, and messages must name files.
        is_file = content.startswith("file:") or (
            content.startswith("/") and _NAMES_FILE.search(key) is not None
        )
        found = [content] if key and is_secret(key, content) and not is_file else []
        found += [match["value"].strip("\\\"'{}") for match in _GIVEN_ALONE.finditer(content)]
        found += [match["value"] for match in _ORACLE_USER.finditer(content)]
        for secret in (*found, *map(unquote, found)):
            if len(secret) >= _SHORTEST_KNOWN and MASK not in secret:
                _known.add(rf"(?<!\w){re.escape(secret)}(?!\w)")
        for uri in _URI_ALONE.finditer(content):
            user, _ = split_user(uri["scheme"], uri["rest"])
            password = (user or "").partition(":")[2]
            # Java takes the part after a slash for the path.
            parts = [password, unquote(password), *(f"/{part}@" for part in password.split("/")[1:])]
            _known.update(re.escape(part) for part in parts if len(part) >= _SHORTEST_KNOWN)


def split_user(scheme: str, rest: str) -> tuple[str | None, str]:
    """Split the part of a URI after ``://`` into user with password, None without a user, and the rest.

    A password may hold any character, even a slash.

    Examples
    --------
    >>> split_user("s3", "key:se/cret@bucket/lake"), split_user("s3", "bucket/lake")
    (('key:se/cret', 'bucket/lake'), (None, 'bucket/lake'))
    """
    if scheme.lower() == _HUB:
        return None, rest
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    has_port = _PORT.match(authority) is not None and not scheme.lower().startswith("s3")
    if ":" in (user if at else authority) and "@" in path and not has_port:
        user, _, place = rest.rpartition("@")
        return user, place
    return (user, f"{host}{slash}{path}") if at else (None, rest)


def _redact(text: str, given: re.Pattern[str], uri: re.Pattern[str]) -> str:
    if _known:
        text = re.sub("|".join(sorted(_known, key=len, reverse=True)), MASK, text)
    text = _PEM.sub(MASK, text)
    text = _AUTHORIZATION.sub(rf"\g<given>{MASK}", text)
    text = given.sub(_mask_value, text)
    text = _OPTION.sub(_mask_value, text)
    text = _BEARER.sub(rf"\g<given>{MASK}", text)
    text = _ORACLE_USER.sub(rf"\g<given>{MASK}@", text)
    text = _ENCODED_USER.sub(rf"\g<given>{MASK}%40", text)
    text = uri.sub(_mask_user, text)
    return _KNOWN_TOKEN.sub(MASK, text)


def _mask_value(found: re.Match[str]) -> str:
    quote = found.groupdict().get("quote") or ""
    return f"{found['given']}{found['equals']}{quote}{MASK}{quote}"


def _mask_user(found: re.Match[str]) -> str:
    user, place = split_user(found["scheme"], found["rest"])
    if user is None:
        return found[0]
    container, colon, _ = user.partition(":")
    if found["scheme"].lower() in azure_names.SCHEMES:
        return f"{found['scheme']}://{container}:{MASK}@{place}" if colon else found[0]
    return f"{found['scheme']}://{MASK}@{place}"

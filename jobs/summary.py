"""What a run tells its user: the settings it starts with and the figures it ends with."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.settings import Settings


def effective_settings(settings: Settings) -> str:
    """Show the settings of a run as YAML, secrets masked.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    str
    """
    shown = yaml.safe_dump(settings.to_record(), sort_keys=False, allow_unicode=True, width=1000)
    return "settings:\n" + "".join(f"  {line}\n" for line in shown.splitlines()).rstrip("\n")


def summarize(record: dict[str, Any]) -> str:
    """Show what a finished run did.

    Parameters
    ----------
    record : dict
        Content of ``run.json``.

    Returns
    -------
    str
    """
    seconds = record["seconds"]
    rate = record["rows"] / max(seconds["embed"], 1e-9)
    lines = [
        f"embedded {record['rows']:,} rows in {seconds['embed']:.1f} s"
        f" ({rate:,.0f} rows/s), after {seconds['startup']:.1f} s of start-up"
    ]
    for column, counts in record["columns"].items():
        seen = counts["tokens"] + counts["unknown_tokens"]
        share = counts["unknown_tokens"] / seen if seen else 0.0
        lines.append(
            f"  {column} -> {counts['embedding']}: {counts['nulls']:,} nulls, {counts['empties']:,} empty,"
            f" {counts['zero_vectors']:,} zero vectors, {counts['tokens']:,} tokens"
            f" ({share:.3%} unknown), {counts['truncated']:,} truncated"
        )
    lines.append(f"wrote {record['files']:,} files, {record['bytes'] / 1e6:,.1f} MB, to {record['output']}")
    return "\n".join(lines)

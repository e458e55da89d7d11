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
    lines += [_summarize_column(column, counts) for column, counts in record["columns"].items()]
    if "memory" in record:
        memory = record["memory"]
        lines.append(
            f"{_count(memory['workers'], 'worker')}, of which the largest took"
            f" {memory['worker_peak_bytes'] / 1e6:,.0f} MB, the mapped table included"
        )
    written = ""
    if "files" in record:
        written = f"{_count(record['files'], 'file')}, {record['bytes'] / 1e6:,.1f} MB, "
    lines.append(f"wrote {written}to {record['output']}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _summarize_column(column: str, counts: dict[str, Any]) -> str:
    line = (
        f"  {column} -> {counts['embedding']}: {counts['nulls']:,} nulls, {counts['empties']:,} empty,"
        f" {counts['zero_vectors']:,} zero vectors"
    )
    if "tokens" in counts:
        seen = counts["tokens"] + counts["unknown_tokens"]
        share = counts["unknown_tokens"] / seen if seen else 0.0
        line += f", {counts['tokens']:,} tokens ({share:.3%} unknown), {counts['truncated']:,} truncated"
    return line

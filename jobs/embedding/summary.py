"""What a run tells its user: the settings it starts with and the figures it ends with."""

from __future__ import annotations

from typing import Any


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
    if record.get("status") == "nothing new":
        return "\n".join([f"nothing new, after {seconds['startup']:.1f} s of start-up", *_totals(record)])
    rows = record.get("rows_embedded", record["rows"])
    rate = rows / max(seconds["embed"], 1e-9)
    lines = [
        f"embedded {rows:,} rows in {seconds['embed']:.1f} s"
        f" ({rate:,.0f} rows/s), after {seconds['startup']:.1f} s of start-up"
    ]
    if "keyed" in record:
        lines.append("  " + ", ".join(f"{number:,} {what}" for what, number in record["keyed"].items()))
    lines += [
        _summarize_column(column, counts) for column, counts in record["columns"].items() if "nulls" in counts
    ]
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
    if record.get("total", record)["rows"] != record["rows"]:
        lines += _totals(record)
    return "\n".join([*lines, *_left_out(record)])


def _totals(record: dict[str, Any]) -> list[str]:
    total = record["total"]
    return [f"{record['output']} holds {total['rows']:,} rows in {_count(total['files'], 'file')}"]


def _left_out(record: dict[str, Any]) -> list[str]:
    """Say what did not become vectors."""
    lines = []
    if number := record.get("rows_quarantined"):
        lines.append(f"quarantine: {_count(number, 'row')} in {record['output']}/_lakevec/quarantine")
    if files := record.get("skipped_files"):
        lines.append(f"left out: {_count(len(files), 'input file')} that can't be read, listed in run.json")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _summarize_column(column: str, counts: dict[str, Any]) -> str:
    line = (
        f"  {column} -> {counts['embedding']}: {counts['nulls']:,} nulls, {counts['empties']:,} empty,"
        f" {counts['zero_vectors']:,} zero vectors"
    )
    if counts.get("bad"):
        line += f", {counts['bad']:,} bad"
    if "tokens" in counts:
        seen = counts["tokens"] + counts["unknown_tokens"]
        share = counts["unknown_tokens"] / seen if seen else 0.0
        line += f", {counts['tokens']:,} tokens ({share:.3%} unknown), {counts['truncated']:,} truncated"
    return line

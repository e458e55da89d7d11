"""The summary that a run prints at its end."""

from __future__ import annotations

from typing import Any

from lakevec.pipeline.output.table_changes import describe_changes


def summarize(record: dict[str, Any]) -> str:
    """Summarize a finished run from the content of its ``run.json``."""
    seconds, output = record["seconds"], record["output"]
    startup = f"after {seconds['startup']:.1f} s of start-up"
    if record.get("status") == "nothing new":
        return "\n".join([f"nothing new, {startup}", *_summarize_others(record), _summarize_total(record)])
    rows = record.get("rows_embedded", record["rows"])
    rate = rows / max(seconds["embed"], 1e-9)
    lines = [f"embedded {rows:,} rows in {seconds['embed']:.1f} s ({rate:,.0f} rows/s), {startup}"]
    if keyed := record.get("keyed"):
        lines.append("  " + ", ".join(f"{number:,} {what}" for what, number in keyed.items()))
    for column, counts in record["columns"].items():
        if "nulls" in counts:
            lines.append(_summarize_column(column, counts))
    if memory := record.get("memory"):
        workers, peak_mb = _count(memory["workers"], "worker"), memory["worker_peak_bytes"] / 1e6
        lines.append(f"{workers}, at most {peak_mb:,.0f} MB each, the mapped table included")
    lines += _summarize_others(record)
    written = ""
    if "files" in record:
        written = f"{_count(record['files'], 'file')}, {record['bytes'] / 1e6:,.1f} MB, "
    lines.append(f"wrote {written}to {output}")
    if record.get("total", record)["rows"] != record["rows"]:
        lines.append(_summarize_total(record))
    if number := record.get("rows_quarantined"):
        lines.append(f"quarantine: {_count(number, 'row')} in {output}/_lakevec/quarantine")
    if files := record.get("skipped_files"):
        lines.append(f"left out: {_count(len(files), 'input file')} that can't be read, listed in run.json")
    return "\n".join(lines)


def _summarize_others(record: dict[str, Any]) -> list[str]:
    others = record.get("others")
    return [f"others had changed the table: {describe_changes(others)}"] if others else []


def _summarize_total(record: dict[str, Any]) -> str:
    total = record["total"]
    return f"{record['output']} holds {total['rows']:,} rows in {_count(total['files'], 'file')}"


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
        tokens = counts["tokens"] + counts["unknown_tokens"]
        share = counts["unknown_tokens"] / tokens if tokens else 0.0
        line += f", {counts['tokens']:,} tokens ({share:.3%} unknown), {counts['truncated']:,} truncated"
    return line

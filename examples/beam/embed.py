"""Parquet in, chunks, vectors, Parquet out: ``lakevec embed`` as a pipeline of Apache Beam.

python examples/beam/embed.py --model models/minilm --input 'lake/docs/*.parquet' --text body \
    --output lake/vectors/part --chunk-tokens 256 --chunk-overlap 32 --quarantine lake/invalid/part

All other options go to Beam, such as ``--runner``.
"""

from __future__ import annotations

import argparse
import sys

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from lakevec.beam import ChunkText, EmbedText

# As the Spark job writes them.
VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))
PLACE = [pa.field(name, pa.int32()) for name in ChunkText.PLACE]


def read_schema(pattern: str, text: str) -> pa.Schema:
    """Return the schema of the first file, which must have the column `text`."""
    [found] = FileSystems.match([pattern])
    if not found.metadata_list:
        sys.exit(f"no file matches --input {pattern}")
    with FileSystems.open(found.metadata_list[0].path) as file:
        schema = pq.read_schema(file)
    if schema.get_field_index(text) < 0:
        sys.exit(f"column --text {text} is not in the files; they have {', '.join(schema.names)}")
    return schema


def add_reason(pair: tuple[pa.Table, str]) -> pa.Table:
    """Return invalid rows with their reason as a column."""
    rows, reason = pair
    return rows.append_column("lakevec_reason", pa.array([reason] * len(rows)))


def build(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Add the steps to a pipeline; each element is a table, so vectors never become Python objects."""
    schema = read_schema(args.input, args.text)
    rows = pipeline | beam.io.ReadFromParquetBatched(args.input)
    if args.chunk_tokens:
        chunk = ChunkText(args.model, args.text, tokens=args.chunk_tokens, overlap=args.chunk_overlap)
        rows, schema = rows | chunk, pa.schema([*schema, *PLACE])
    embed = EmbedText(args.model, args.text, on_bad_row="quarantine" if args.quarantine else "fail")
    if args.quarantine:
        embedded, invalid = rows | embed
        position = schema.get_field_index(args.text)
        invalid_schema = schema.set(position, pa.field(args.text, pa.large_binary()))
        invalid_schema = invalid_schema.append(pa.field("lakevec_reason", pa.string()))
        _ = invalid | beam.Map(add_reason) | "Quarantine" >> write(args.quarantine, invalid_schema)
    else:
        embedded = rows | embed
    _ = embedded | "Write" >> write(args.output, schema.append(pa.field(f"{args.text}_embedding", VECTOR)))


def write(prefix: str, schema: pa.Schema) -> beam.PTransform:
    """Write tables to Parquet files that begin with a prefix."""
    return beam.io.WriteToParquetBatched(
        prefix, schema, codec="zstd", file_name_suffix=".parquet", use_compliant_nested_type=True
    )


def main() -> None:
    """Run the pipeline until it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="a model that the workers can read, too")
    parser.add_argument("--input", required=True, help="pattern of Parquet files with one schema")
    parser.add_argument("--text", required=True, help="column to embed")
    parser.add_argument("--output", required=True, help="beginning of the output files' names")
    parser.add_argument("--chunk-tokens", type=int, help="split texts into chunks of at most N tokens")
    parser.add_argument("--chunk-overlap", type=int, default=0, help="tokens that the next chunk repeats")
    parser.add_argument("--quarantine", help="write invalid rows here; default: fail")
    args, options = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        build(pipeline, args)


if __name__ == "__main__":
    main()

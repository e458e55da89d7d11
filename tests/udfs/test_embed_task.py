"""What a task takes of its worker, measured in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# A worker embeds one row, then the batches. They come as a stream, as from Spark: each is one buffer.
CODE = """
import io, json, re, sys
import numpy as np, pyarrow as pa
from pyarrow import fs as pafs
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
from lakevec.pipeline.output.parquet_writer import FileLayout
from lakevec.pipeline.storage import Location
from lakevec.udfs.embed_task import EmbedTask, InvalidRows, TaskColumns
from lakevec.pipeline.encoding.node_files import pack_table

folder, kept, words_each, rows, batches = json.loads(sys.argv[1])
text = "east " * words_each
words = make_word_tokenizer(["north", "east"], lowercase=True).to_str()
task = EmbedTask(
    pack_table(StaticTable(np.eye(3, 256, dtype=np.float32), words, normalize=False), node_dir=folder),
    TaskColumns({"text": "vector"}, ("id", "text"), tuple(kept)),
    EncodeOptions(),
    VectorType.FLOAT32,
    InvalidRows(),
    FileLayout(("vector",), "zstd", {}),
    Location(pafs.LocalFileSystem(), folder + "/staging"),
    "run",
)

def stream(rows, batches):
    schema = pa.schema({"c0": pa.int64(), "c1": pa.string()})
    ends = np.arange(rows + 1, dtype=np.int32) * len(text)
    texts = pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(text.encode() * rows))
    ids = pa.Int64Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(np.arange(rows))])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([ids, texts], schema=schema))
    for _ in range(batches):
        yield from pa.ipc.open_stream(io.BytesIO(sink.getvalue()))

def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1000

list(task(stream(1, 1)))
before = memory("VmRSS")
list(task(stream(rows, batches)))
print(json.dumps({"grown_mb": memory("VmHWM") - before, "modules": sorted(sys.modules)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kept", "words_each", "rows", "batches", "most_mb"),
    [
        # 160 MB of vectors, 20 of which wait to be written.
        (["id", "text"], 2, 10_000, 16, 80),
        # 160 MB of texts that the output doesn't keep.
        (["id"], 400_000, 1, 80, 60),
    ],
    ids=["vectors", "long texts"],
)
def test_task_holds_a_row_group_and_imports_no_pandas(
    tmp_path: Path, kept: list[str], words_each: int, rows: int, batches: int, most_mb: float
) -> None:
    arguments = json.dumps([str(tmp_path), kept, words_each, rows, batches])
    command = [sys.executable, "-c", CODE, arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["grown_mb"] < most_mb
    assert not {"pandas", "scipy.linalg"} & set(found["modules"])

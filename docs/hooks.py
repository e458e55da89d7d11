"""Hooks of MkDocs: the files at the repository's root become pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages: links to `docs/` lead to the pages beside them, other files are not on the site."""
    for name, page in _PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (_ROOT / name).read_text(encoding="utf-8"))
        text = re.sub(r"\[([^\]]+)\]\((?:conf|examples|LICENSE|Makefile)[^)]*\)", r"\1", text)
        files.append(File.generated(config, page, content=text))
    return files

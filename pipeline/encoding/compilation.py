"""Numba, with its machine code kept on disk where some folder can be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile


def _digest_sources() -> str:
    """Digest every module here: numba's cache looks at a function's own file, and not at what it calls."""
    modules = [file for file in files(__package__).iterdir() if file.name.endswith(".py")]
    sources = sorted((file.name, file.read_bytes()) for file in modules)
    return hashlib.sha256(repr(sources).encode()).hexdigest()[:12]


_SOURCES = _digest_sources()
_cache_folders: set[Path] = set()


# Arrays come from Python, which holds them for as long as a loop runs. So machine code need not count
# references to them, which took a third of the time; it can't make arrays then, and needs none.
_OPTIONS = {"error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}


def compile_loop(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called.

    Parameters
    ----------
    function : callable
        Loops over arrays and numbers; makes no arrays.

    Returns
    -------
    callable
        The same, as machine code.
    """
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    try:
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
        cache = compiled._cache
        # For code in an archive numba takes a folder without looking, and would fail at the first call.
        cache._impl.locator.ensure_cache_path()
    except (OSError, RuntimeError):  # no folder for the cache: neither beside the code nor the user's own
        return numba.njit(**_OPTIONS)(function)
    # Valid for these sources wherever they lie and whenever they were written, so that it can be shipped.
    cache._cache_file = IndexDataCacheFile(cache.cache_path, cache._impl.filename_base, _SOURCES)
    _cache_folders.add(Path(cache.cache_path))
    return compiled


def machine_code() -> dict[str, bytes]:
    """Return the files of machine code that numba keeps for these sources.

    Returns
    -------
    dict of str to bytes
        Name and content. A processor of another kind finds nothing for itself in them, and compiles.
    """
    files = [file for folder in _cache_folders for file in folder.glob(f"*_{_SOURCES}-*.nb[ci]")]
    return {file.name: file.read_bytes() for file in sorted(files)}


def compile_part(function: Callable[..., Any]) -> Any:
    """Compile a function that only compiled functions call: without a door for Python.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
    """
    return numba.njit(no_cpython_wrapper=True, **_OPTIONS)(function)

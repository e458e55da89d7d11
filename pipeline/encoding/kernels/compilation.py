"""Numba, with its machine code kept on disk where some folder can be written, and fit to travel."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba.core.caching import IndexDataCacheFile
from numba.core.registry import cpu_target

from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import MACHINE_CODE, private_folder, replace_file


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


class _MachineCode(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """Numba's files of a function, with code for this processor made from another one's where there is none.

    Numba keeps a function's LLVM code beside its machine code. To turn one into the other takes a fifth of
    the time that it takes to start from Python.
    """

    def load(self, key: Any) -> Any:
        found = super().load(key)
        return self._translate(key) if found is None else found

    def _translate(self, key: Any) -> Any:
        signature, (triple, *_), code = key
        for (other_signature, (other_triple, *_), other_code), name in self._load_index().items():
            if (other_signature, other_triple, other_code) != (signature, triple, code):
                continue
            try:
                (library, kind, (_, bitcode)), *rest = self._load_data(name)
            except OSError:  # tidied away
                continue
            target = cpu_target.target_context.codegen()._tm
            native = target.emit_object(binding.parse_bitcode(bitcode))
            data = ((library, kind, (native, bitcode)), *rest)
            self.save(key, data)
            return data
        return None


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
    compiled = _with_cache(function) or _with_cache(function, private=True)
    if compiled is None:
        return numba.njit(**_OPTIONS)(function)
    cache = compiled._cache
    # Valid for these sources wherever they lie and whenever they were written, so that it can be shipped.
    cache._cache_file = _MachineCode(cache.cache_path, cache._impl.filename_base, _SOURCES)
    _cache_folders.add(Path(cache.cache_path))
    return compiled


def _with_cache(function: Callable[..., Any], *, private: bool = False) -> Any:
    """Let numba choose a folder, or give it the node's; return None where it can't be written."""
    chosen = numba.config.CACHE_DIR
    try:
        if private:
            numba.config.CACHE_DIR = str(private_folder() / MACHINE_CODE)
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
        # For code in an archive numba takes a folder without looking, and would fail at the first call.
        compiled._cache._impl.locator.ensure_cache_path()
    except (OSError, RuntimeError, DataError):
        return None
    finally:
        numba.config.CACHE_DIR = chosen
    return compiled


def machine_code() -> dict[str, bytes]:
    """Return the files of machine code that numba keeps for these sources.

    Returns
    -------
    dict of str to bytes
        Name and content; an index (``.nbi``) comes behind the data that it names.
    """
    found = [file for folder in _cache_folders for file in folder.glob(f"*_{_SOURCES}-*.nb[ci]")]
    return {file.name: file.read_bytes() for file in sorted(found, key=lambda file: (file.suffix, file.name))}


def lacks_machine_code(names: Iterable[str]) -> bool:
    """Tell whether functions of files that `machine_code` named have none here, and it could be kept.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    bool
    """
    indexes = [name for name in names if name.endswith(".nbi")]
    return any(not (folder / index).exists() for folder in _cache_folders for index in indexes)


def keep_machine_code(made: dict[str, bytes]) -> None:
    """Lay down what `machine_code` returned elsewhere, for functions that have none here.

    Parameters
    ----------
    made : dict of str to bytes
        Of this user's own driver: machine code is as powerful as the code it was made from.
    """
    for folder in _cache_folders:
        indexes = {name for name in made if name.endswith(".nbi") and not (folder / name).exists()}
        for name, content in made.items():
            # Data "loop-1.py311.1.nbc" is named by the index "loop-1.py311.nbi", and useless without.
            if name in indexes or f"{name.rsplit('.', 2)[0]}.nbi" in indexes:
                with contextlib.suppress(OSError):  # no room: then it is compiled
                    replace_file(folder / name, content)


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


def compile_inline(function: Callable[..., Any]) -> Any:
    """Compile a part into every caller: a call would copy the fields of all its tuples."""
    return numba.njit(no_cpython_wrapper=True, forceinline=True, **_OPTIONS)(function)

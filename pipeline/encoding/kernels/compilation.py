"""Numba, with machine code that is cached on disk and can be shipped to other machines."""

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

# Counting references to arrays took a third of the time. Kernels need no counts, since Python holds all
# arrays while a kernel runs. In return, kernels can't make arrays.
_OPTIONS = {"error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}


def _digest_sources() -> str:
    """Hash all modules of this package, since Numba's cache checks a function's own file only."""
    modules = [file for file in files(__package__).iterdir() if file.name.endswith(".py")]
    sources = sorted((file.name, file.read_bytes()) for file in modules)
    return hashlib.sha256(repr(sources).encode()).hexdigest()[:12]


_SOURCES = _digest_sources()
# Folders of the kernels' machine code.
cache_folders: set[Path] = set()


class _MachineCode(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """Numba's cache files of a function; code for another processor is translated for this one.

    Numba also caches LLVM code, and compiles it in a fifth of the time that Python code takes.
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
            except OSError:  # deleted since
                continue
            target = cpu_target.target_context.codegen()._tm
            native = target.emit_object(binding.parse_bitcode(bitcode))
            data = ((library, kind, (native, bitcode)), *rest)
            self.save(key, data)
            return data
        return None


def compile_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls, at its first call."""
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    compiled = _with_cache(function) or _with_cache(function, private=True)
    if compiled is None:
        return numba.njit(**_OPTIONS)(function)
    cache = compiled._cache
    # Identify the sources by content, not by place and time, so that the machine code can be shipped.
    cache._cache_file = _MachineCode(cache.cache_path, cache._impl.filename_base, _SOURCES)
    # Compiling loads Numba's registries. Numba also loads them before it looks for machine code, which needs
    # none: 50 MB in every worker, with LLVM's compiler and SciPy.
    cache.load_overload = cache._load_overload
    cache_folders.add(Path(cache.cache_path))
    return compiled


def compile_part(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call."""
    return numba.njit(no_cpython_wrapper=True, **_OPTIONS)(function)


def compile_inline(function: Callable[..., Any]) -> Any:
    """Compile a part into every caller: a call would copy the fields of all its tuples."""
    return numba.njit(no_cpython_wrapper=True, forceinline=True, **_OPTIONS)(function)


def _with_cache(function: Callable[..., Any], *, private: bool = False) -> Any:
    """Compile with a cache in Numba's folder, or in the user's; return None if it is read-only."""
    chosen = numba.config.CACHE_DIR
    try:
        if private:
            numba.config.CACHE_DIR = str(private_folder() / MACHINE_CODE)
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
        # For code in an archive, Numba doesn't check the folder, and would fail at the first call.
        compiled._cache._impl.locator.ensure_cache_path()
    except (OSError, RuntimeError, DataError):
        return None
    finally:
        numba.config.CACHE_DIR = chosen
    return compiled


def widens_halves() -> bool:
    """Return whether the processor turns float16 into float32; LLVM's substitute is missing at run time."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+f16c" in features or triple.startswith(("aarch64", "arm64"))


def machine_code() -> dict[str, bytes]:
    """Return name and content of the kernels' cache files, each index (``.nbi``) after its data."""
    found = [file for folder in cache_folders for file in folder.glob(f"*_{_SOURCES}-*.nb[ci]")]
    return {file.name: file.read_bytes() for file in sorted(found, key=lambda file: (file.suffix, file.name))}


def lacks_machine_code(names: Iterable[str]) -> bool:
    """Return whether this process can cache kernels, and lacks one of `names` (from `machine_code`)."""
    indexes = [name for name in names if name.endswith(".nbi")]
    return any(not (folder / index).exists() for folder in cache_folders for index in indexes)


def keep_machine_code(made: dict[str, bytes]) -> None:
    """Write the cache files of kernels that have none here.

    Pass only the result of `machine_code` on this user's own driver, since machine code can do anything that
    this user can.
    """
    for folder in cache_folders:
        indexes = {name for name in made if name.endswith(".nbi") and not (folder / name).exists()}
        for name, content in made.items():
            # The index "loop-1.py311.nbi" names the data "loop-1.py311.1.nbc", which is useless without it.
            if name in indexes or f"{name.rsplit('.', 2)[0]}.nbi" in indexes:
                with contextlib.suppress(OSError):  # the disk is full: compile instead
                    replace_file(folder / name, content)

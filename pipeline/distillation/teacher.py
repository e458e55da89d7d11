"""The teacher: a Sentence Transformer's encoder and tokenizer, loaded without running anyone's code.

Importing this module imports torch and transformers; only distilling does so.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from lakevec.pipeline.distillation.sentence_transformer_config import SentenceTransformerConfig, read_config
from lakevec.pipeline.errors import SettingsError, TeacherError
from lakevec.pipeline.model import hub

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.delegated_teacher import DelegatedTeacher

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded teacher.

    Parameters
    ----------
    name : str
        Hub id, or the folder's name.
    revision : str
        Commit of a hub teacher, or ``sha256:`` of a folder's weights.
    model : transformers.PreTrainedModel
        In evaluation mode, float32, on its device.
    tokenizer : transformers.PreTrainedTokenizerBase
        Backed by the `tokenizers` library.
    own_way : SentenceTransformerConfig
        What the Sentence Transformer does with hidden states.
    folder : pathlib.Path
    trusts_code : bool, default=False
        Whether code of the teacher's may run.
    has_pooler : bool, default=True
        Whether the weights of the model's pooler, if it has one, were in its files.
    """

    name: str
    revision: str
    model: Any
    tokenizer: Any
    own_way: SentenceTransformerConfig
    folder: Path
    trusts_code: bool = False
    has_pooler: bool = True

    def open_library(self) -> DelegatedTeacher:
        """Let sentence-transformers run the teacher, in its own way.

        Returns
        -------
        DelegatedTeacher

        Raises
        ------
        SetupError
            If the library is not installed.
        TeacherError
            If it can't load the teacher, or would run code that nobody trusts.
        """
        if self.own_way.has_foreign_code and not self.trusts_code:
            raise TeacherError(
                f"teacher {self.name!r} brings code of its own",
                got=self.own_way.reason,
                expected="modules of sentence-transformers",
                remedy="read that code; if you trust it, run with --trust-remote-code",
            )
        from lakevec.pipeline.distillation.delegated_teacher import DelegatedTeacher

        return DelegatedTeacher(
            self.folder, self.own_way.reason, device=self.model.device, trust_remote_code=self.trusts_code
        )


def load_teacher(
    teacher: str, *, revision: str | None = None, device: str = "auto", trust_remote_code: bool = False
) -> Teacher:
    """Load a teacher from a folder or the Hugging Face hub.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or plain transformer, or a hub id.
    revision : str, optional
        Branch, tag or commit of a hub teacher.
    device : str, default="auto"
        torch device; ``auto`` is cuda where there is one, else cpu.
    trust_remote_code : bool, default=False
        Whether code of the teacher's may run.

    Returns
    -------
    Teacher

    Raises
    ------
    TeacherError
        If it can't be found or loaded, has no safetensors weights or no fast tokenizer, or its weights are
        not finite or not all there.
    SettingsError
        If the device is not there.

    Notes
    -----
    Only safetensors weights are read, and no code is run unless `trust_remote_code` is given.
    """
    where = _pick_device(device)
    folder, name, resolved = _resolve(teacher, revision)
    root = _transformer_folder(folder)
    if not any(root.glob("*.safetensors")):
        raise TeacherError(
            f"teacher {teacher!r} has no safetensors weights",
            expected="model.safetensors; pickled weights are not loaded",
            remedy="save the teacher again with safe_serialization=True",
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = _load_tokenizer(root, teacher, trust_remote_code=trust_remote_code)
    model, has_pooler = _load_model(root, teacher, trust_remote_code=trust_remote_code)
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise TeacherError(
            f"teacher {teacher!r} has weights that are NaN or infinite", remedy="fetch or train it again"
        )
    own_way = read_config(folder, width=model.config.hidden_size)
    return Teacher(
        name,
        resolved or _weights_digest(root),
        model.to(where).eval(),
        tokenizer,
        own_way,
        folder,
        trusts_code=trust_remote_code,
        has_pooler=has_pooler,
    )


def _pick_device(device: str) -> torch.device:
    """Turn the setting into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"device {device!r} can't be used", got=_one_line(error), expected="cpu or cuda"
        ) from None
    return found


def _resolve(teacher: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Return the teacher's folder, its name, and the commit where it came from a hub."""
    if hub.is_hub_name(teacher):
        found = hub.fetch(teacher, revision=revision, error=TeacherError)
        return found.folder, found.name, found.commit
    folder = Path(teacher).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise SettingsError("revision", got=repr(revision), expected="none for a teacher in a folder")
        return folder, folder.resolve().name, None
    raise hub.missing("teacher", teacher, error=TeacherError)


def _load_model(root: Path, teacher: str, *, trust_remote_code: bool) -> tuple[Any, bool]:
    """Load the transformer, of one with encoder and decoder the encoder; say whether its pooler was there."""
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(str(root), **options)
        is_half = any(name.endswith("EncoderModel") for name in config.architectures or [])
        has_decoder = config.is_encoder_decoder or is_half
        kind = transformers.AutoModelForTextEncoding if has_decoder else transformers.AutoModel
        model, found = kind.from_pretrained(
            str(root),
            use_safetensors=True,
            dtype=torch.float32,
            # Told below by name; transformers would point to a report in its log.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    # transformers and safetensors raise many kinds of errors for damaged folders
    except Exception as error:
        raise TeacherError(f"teacher {teacher!r} can't be loaded", got=_one_line(error)) from None
    _check_weights(teacher, found)
    return model, not any("pooler" in name for name in found["missing_keys"])


def _check_weights(teacher: str, found: dict[str, Any]) -> None:
    """Refuse weights that transformers would make up; a pooler is needed by --pooling pooler alone."""
    remedy = "fetch or save the teacher again; random numbers would take their place"
    for name, in_file, in_model in sorted(map(tuple, found.get("mismatched_keys", ()))):
        raise TeacherError(
            f"teacher {teacher!r} has a weight of another shape than its configuration",
            got=f"{name} of shape {tuple(in_file)}",
            expected=str(tuple(in_model)),
            remedy=remedy,
        )
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if missing:
        raise TeacherError(
            f"teacher {teacher!r} lacks {len(missing)} weight{'' if len(missing) == 1 else 's'}",
            got=f"none for {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}",
            expected="every weight of the model in its safetensors files",
            remedy=remedy,
        )
    if errors := found.get("error_msgs"):
        raise TeacherError(f"teacher {teacher!r} has weights that don't fit", got=_one_line(errors[0]))


def _transformer_folder(folder: Path) -> Path:
    """Find the transformer inside a Sentence Transformer, which may keep it in a sub-folder."""
    modules = folder / "modules.json"
    root = folder
    if modules.is_file():
        try:
            entries = json.loads(modules.read_text(encoding="utf-8"))
            paths = [entry["path"] for entry in entries if entry["type"].endswith(".Transformer")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TeacherError(
                f"{modules} can't be read", expected="a list of modules with path and type"
            ) from None
        if not paths:
            raise TeacherError(
                f"teacher {folder} has no Transformer module",
                expected="a Sentence Transformer, not a static model",
            )
        if paths[0].startswith("/") or ".." in paths[0].split("/"):
            raise TeacherError(
                f"teacher {folder} names a folder outside", got=repr(paths[0]), expected="one in it"
            )
        root = folder / paths[0]
    if not (root / "config.json").is_file():
        raise TeacherError(
            f"{root} is not a teacher", got="no config.json", expected="the folder of a Sentence Transformer"
        )
    return root


def _load_tokenizer(root: Path, teacher: str, *, trust_remote_code: bool) -> Any:
    """Load the teacher's tokenizer and refuse one that the `tokenizers` library can't run."""
    # Where none of these is there, transformers makes up a tokenizer of five special tokens.
    if not any(file for pattern in _TOKENIZER_FILES for file in root.glob(pattern)):
        raise TeacherError(
            f"teacher {teacher!r} has no tokenizer", expected="tokenizer.json, or files to make it from"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(root), use_fast=True, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # as above
        raise TeacherError(
            f"teacher {teacher!r} has no tokenizer that can be loaded", got=_one_line(error)
        ) from None
    if not tokenizer.is_fast:
        raise TeacherError(
            f"teacher {teacher!r} has no fast tokenizer",
            got=type(tokenizer).__name__,
            expected="one that the tokenizers library can run",
            remedy="convert it to tokenizer.json first",
        )
    return tokenizer


def _weights_digest(root: Path) -> str:
    """Name the weights of a folder, which has no commit."""
    digest = hashlib.sha256()
    for file in sorted(root.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]

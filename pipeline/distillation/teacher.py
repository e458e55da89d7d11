"""Teachers: the transformer and tokenizer of a Sentence Transformer, from a folder or the hub."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.distillation.sentence_transformer_config import (
    DenseLayer,
    SentenceTransformerConfig,
    read_config,
)
from lakevec.pipeline.errors import SettingsError, TeacherError, one_line, rephrase
from lakevec.pipeline.local_files import file_sha256
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.sentence_transformer_files import read_modules
from lakevec.pipeline.storage import Location

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.delegated_teacher import DelegatedTeacher

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded teacher.

    Parameters
    ----------
    name : str
        Hub id, or name of the folder.
    revision : str
        Commit of a hub teacher, or ``sha256:`` digest of a folder's weights.
    model : transformers.PreTrainedModel
        In evaluation mode, float32, on its device.
    tokenizer : transformers.PreTrainedTokenizerBase
        Backed by the `tokenizers` library.
    config : SentenceTransformerConfig
        Pooling and later modules.
    folder : pathlib.Path
    trusts_code : bool
        Whether the teacher's own code may run.
    has_pooler : bool
        Whether the files hold all weights of the pooler, if the model has one.
    """

    name: str
    revision: str
    model: Any
    tokenizer: Any
    config: SentenceTransformerConfig
    folder: Path
    trusts_code: bool
    has_pooler: bool

    def width(self, dense: tuple[DenseLayer, ...]) -> int:
        """Return the width H of the vectors after the Dense layers."""
        return int(dense[-1].weight.shape[0] if dense else self.model.config.hidden_size)

    @cached_property
    def delegate(self) -> DelegatedTeacher:
        """The teacher as sentence-transformers runs it; loaded at the first use.

        Raises
        ------
        SetupError
            If sentence-transformers is not installed.
        TeacherError
            If sentence-transformers can't load the teacher, or would run code that the options don't trust.
        """
        if self.config.has_foreign_code and not self.trusts_code:
            raise TeacherError(
                f"teacher {self.name!r} brings code of its own",
                got=self.config.reason,
                expected="modules of sentence-transformers",
                remedy="read that code; if you trust it, run with --trust-remote-code",
            )
        from lakevec.pipeline.distillation.delegated_teacher import DelegatedTeacher

        return DelegatedTeacher(
            self.folder, self.config.reason, device=self.model.device, trust_remote_code=self.trusts_code
        )


def load_teacher(teacher: str, options: TeacherOptions | None = None) -> Teacher:
    """Load a teacher from a folder or the Hugging Face hub.

    Weights must be safetensors. The teacher's own code runs only if the options allow it.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or plain transformer, or a hub id.

    Raises
    ------
    TeacherError
        If the teacher is missing or unreadable, lacks safetensors weights or a fast tokenizer, or has
        missing or non-finite weights.
    SettingsError
        If the device does not exist.
    """
    options = options or TeacherOptions()
    device = _pick_device(options.device)
    found = hub.find("teacher", teacher, revision=options.revision, error=TeacherError)
    if not found.place.is_local:
        raise TeacherError(f"teacher {teacher!r} is not on this machine", expected="a folder, or hf://...")
    folder, root = Path(found.place.path), _transformer_folder(found.place)
    if not any(root.glob("*.safetensors")):
        raise TeacherError(
            f"teacher {teacher!r} has no safetensors weights",
            expected="model.safetensors; pickled weights are not loaded",
            remedy="save the teacher again with safe_serialization=True",
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trust = {"trust_remote_code": options.trust_remote_code, "local_files_only": True}
    tokenizer = _load_tokenizer(root, teacher, trust)
    model, has_pooler = _load_model(root, teacher, trust)
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise TeacherError(
            f"teacher {teacher!r} has weights that are NaN or infinite", remedy="fetch or train it again"
        )
    return Teacher(
        found.hub_name or folder.resolve().name,
        found.commit or _weights_digest(root),
        model.to(device).eval(),
        tokenizer,
        read_config(found.place, width=model.config.hidden_size),
        folder,
        trusts_code=options.trust_remote_code,
        has_pooler=has_pooler,
    )


def _pick_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    what = f"device {device!r} can't be used"
    with rephrase(SettingsError, what, on=(RuntimeError, AssertionError), expected="cpu or cuda"):
        found = torch.device(device)
        torch.empty(1, device=found)
    return found


def _transformer_folder(place: Location) -> Path:
    """Return the folder of the transformer, which may be a sub-folder of the Sentence Transformer."""
    folders = [place]
    if (modules := read_modules(place, error=TeacherError)) is not None:
        folders = [module.folder for module in modules if module.class_name.endswith(".Transformer")]
    if not folders:
        expected = "a Sentence Transformer, not a static model"
        raise TeacherError(f"teacher {place.path} has no Transformer module", expected=expected)
    root = Path(folders[0].path)
    if not (root / "config.json").is_file():
        expected = "the folder of a Sentence Transformer"
        raise TeacherError(f"{root} is not a teacher", got="no config.json", expected=expected)
    return root


def _load_model(root: Path, teacher: str, trust: dict[str, bool]) -> tuple[Any, bool]:
    """Load the transformer, or only its encoder; return whether its pooler has weights."""
    # transformers and safetensors have no common error class for damaged folders.
    with rephrase(TeacherError, f"teacher {teacher!r} can't be loaded"):
        config = transformers.AutoConfig.from_pretrained(str(root), **trust)
        is_encoder = any(name.endswith("EncoderModel") for name in config.architectures or [])
        has_decoder = config.is_encoder_decoder or is_encoder
        loader = transformers.AutoModelForTextEncoding if has_decoder else transformers.AutoModel
        model, loading_info = loader.from_pretrained(
            str(root),
            use_safetensors=True,
            dtype=torch.float32,
            # transformers would only point to its log; `_check_weights` names the mismatched weights.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **trust,
        )
    _check_weights(teacher, loading_info)
    return model, not any("pooler" in name for name in loading_info["missing_keys"])


def _check_weights(teacher: str, loading_info: dict[str, Any]) -> None:
    """Refuse weights that transformers would initialize at random, except in the rarely used pooler."""
    remedy = "fetch or save the teacher again; transformers would fill in random numbers"
    for name, in_file, in_model in sorted(map(tuple, loading_info.get("mismatched_keys", ()))):
        raise TeacherError(
            f"teacher {teacher!r} has a weight of another shape than its configuration",
            got=f"{name} of shape {tuple(in_file)}",
            expected=str(tuple(in_model)),
            remedy=remedy,
        )
    if missing := sorted(name for name in loading_info["missing_keys"] if "pooler" not in name):
        raise TeacherError(
            f"teacher {teacher!r} lacks {len(missing)} weight{'' if len(missing) == 1 else 's'}",
            got=f"none for {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}",
            expected="every weight of the model in its safetensors files",
            remedy=remedy,
        )
    if errors := loading_info.get("error_msgs"):
        raise TeacherError(f"teacher {teacher!r} has weights that don't fit", got=one_line(errors[0]))


def _load_tokenizer(root: Path, teacher: str, trust: dict[str, bool]) -> Any:
    """Load the teacher's tokenizer; refuse slow tokenizers, which the `tokenizers` library can't run."""
    # Without any of these files, transformers returns a tokenizer of five special tokens.
    if not any(file for pattern in _TOKENIZER_FILES for file in root.glob(pattern)):
        raise TeacherError(
            f"teacher {teacher!r} has no tokenizer", expected="tokenizer.json, or files to make it from"
        )
    with rephrase(TeacherError, f"teacher {teacher!r} has no tokenizer that can be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(root), use_fast=True, **trust)
    if not tokenizer.is_fast:
        raise TeacherError(
            f"teacher {teacher!r} has no fast tokenizer",
            got=type(tokenizer).__name__,
            expected="one that the tokenizers library can run",
            remedy="convert it to tokenizer.json first",
        )
    return tokenizer


def _weights_digest(root: Path) -> str:
    """Return a digest of the weights, since a folder has no commit."""
    digest = hashlib.sha256()
    for file in sorted(root.glob("*.safetensors")):
        digest.update(bytes.fromhex(file_sha256(file)))
    return f"sha256:{digest.hexdigest()}"

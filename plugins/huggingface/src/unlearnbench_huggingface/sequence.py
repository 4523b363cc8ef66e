"""Sequence classifiers of transformers. No code of a repository is ever run, and no pickle is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from unlearnbench.api import DataError, UsageError, did_you_mean
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_huggingface.embedding import require_known, require_text
from unlearnbench_huggingface.hub import REVISION
from unlearnbench_huggingface.plugin import SequenceParams
from unlearnbench_huggingface.reading import one_line

NAME = "hf-sequence-classifier"
WEIGHTS = "model.safetensors"

_auto: Any = AutoModelForSequenceClassification  # parts of transformers are not typed
_logging: Any = transformers.logging

# The same size has several names in transformers.
_INTERMEDIATE = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "n_inner")
_DROPOUT = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", "classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "summary_first_dropout",
    "summary_last_dropout",
)  # fmt: skip


class Classifier(nn.Module):
    """A sequence classifier that takes token ids alone: what is not 0 is read, and the outputs are logits."""

    def __init__(self, net: nn.Module, padding: int, vocabulary: int) -> None:
        super().__init__()
        self.net = net
        self.padding = padding
        self.vocabulary = vocabulary

    def forward(self, x: Tensor) -> Tensor:
        require_known(x, self.vocabulary, NAME)
        ids = x
        if self.padding:  # as tokenizers that pad with another id were read: 0 and that id exchanged
            ids = torch.where(x == 0, self.padding, torch.where(x == self.padding, 0, x))
        out: Tensor = self.net(input_ids=ids, attention_mask=(x != 0).long()).logits
        return out


class SequenceClassifier(Component[SequenceParams]):
    """Rows of token ids, at most as long as the network has positions."""

    def build(self, job: BuildJob) -> nn.Module:
        length = require_text(job, NAME)
        with _quiet():
            return self._build(job, length)

    def _build(self, job: BuildJob, length: int) -> nn.Module:
        folder = self._folder() if self.p.checkpoint else None
        config = self._config(job.outputs) if folder is None else self._stored_config(folder, job.outputs)
        # On the meta device a stored model is about to be given its own weights.
        meta = torch.get_default_device().type == "meta"
        if folder is None or meta:
            with _refusing():
                net = _auto.from_config(config, trust_remote_code=False)
        else:
            with one_line("unreadable-file", "is not a checkpoint", where=self.p.checkpoint, hint="look at its files"):
                net = _auto.from_pretrained(
                    str(folder), config=config, use_safetensors=True, trust_remote_code=False, local_files_only=True,
                    dtype=torch.float32,
                )  # fmt: skip
        limit = _positions(net)
        if limit is not None and length > limit:
            raise UsageError(
                "bad-model", f"rows have {length} tokens, the network reads {limit}", where="$.model.params.positions",
                hint=f"a smaller max_length of the data set, or --set {NAME}.positions={length}",
            )  # fmt: skip
        return Classifier(net, config.pad_token_id, config.vocab_size)

    def _config(self, outputs: int) -> Any:
        p = self.p
        known = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        where = f"{NAME}.model_type"
        if p.model_type not in known:
            hint = did_you_mean(p.model_type, known, otherwise="bert, distilbert and electra are some")
            raise UsageError(
                "bad-parameter", f"transformers has no sequence classifier {p.model_type!r}", where=where, hint=hint
            )
        if p.hidden % p.heads:
            raise UsageError(
                "bad-parameter", f"hidden={p.hidden} is no multiple of {p.heads} heads", where=f"{NAME}.heads"
            )
        with _refusing():
            config = AutoConfig.for_model(
                p.model_type,
                vocab_size=p.vocabulary,
                hidden_size=p.hidden,
                num_hidden_layers=p.layers,
                num_attention_heads=p.heads,
                max_position_embeddings=p.positions,
                pad_token_id=0,
                num_labels=outputs,
            )
        for names, value in ((_INTERMEDIATE, p.intermediate), (_DROPOUT, p.dropout)):
            for name in names:
                if hasattr(config, name):
                    setattr(config, name, value)
        return _common(config)

    def _stored_config(self, folder: Path, outputs: int) -> Any:
        with one_line("unreadable-file", "is not a checkpoint", where=self.p.checkpoint, hint="look at config.json"):
            config = AutoConfig.from_pretrained(
                str(folder), num_labels=outputs, trust_remote_code=False, local_files_only=True
            )
        if config.pad_token_id is None:
            raise UsageError("bad-model", "the checkpoint has no padding token", where=f"{NAME}.checkpoint")
        return _common(config)

    def _folder(self) -> Path:
        """The folder of the checkpoint, which is pinned: by its commit, or by the digest of its weights."""
        p, where = self.p, f"{NAME}.checkpoint"
        if p.revision:
            if not REVISION.match(p.revision):
                raise UsageError("bad-parameter", f"{p.revision!r} is not a commit of 40 hexadecimal digits",
                                 where=f"{NAME}.revision", hint="branches and tags move")  # fmt: skip
            command = f"hf download {p.checkpoint} --revision {p.revision}"
            with one_line(
                "missing-file", "is not in the Hugging Face cache", where=p.checkpoint, hint=f"run `{command}`"
            ):
                return Path(snapshot_download(p.checkpoint, revision=p.revision, local_files_only=True))
        folder = Path(p.checkpoint).expanduser()
        if not folder.is_dir():
            raise UsageError("bad-parameter", f"{p.checkpoint!r} is no folder, and on the Hub it needs a commit",
                             where=where, hint=f"--set {NAME}.revision=COMMIT")  # fmt: skip
        if not (folder / WEIGHTS).is_file():
            raise DataError("missing-file", f"has no {WEIGHTS}", where=p.checkpoint,
                            hint="save it with safetensors; other formats can run code")  # fmt: skip
        with (folder / WEIGHTS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != p.sha256:
            wanted = f"not {p.sha256}" if p.sha256 else "which has to be given"
            raise DataError("wrong-digest", f"{WEIGHTS} has sha256 {found}, {wanted}", where=p.checkpoint,
                            hint=f"--set {NAME}.sha256={found} if that is what you mean")  # fmt: skip
        return folder


def _common(config: Any) -> Any:
    config.problem_type = None
    config.return_dict = True
    # The plain implementation of attention is deterministic on every device.
    config._attn_implementation = "eager"
    return config


def _positions(net: nn.Module) -> int | None:
    """Tokens that the network has positions for; None where it has no limit. Some networks skip the first positions."""
    limit = getattr(net.config, "max_position_embeddings", None)
    for name, module in net.named_modules():
        if limit and name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return int(limit) - (0 if module.padding_idx is None else module.padding_idx + 1)
    return limit


@contextmanager
def _refusing() -> Iterator[None]:
    """Sizes that do not make a network, as a refusal."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, AttributeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise UsageError("bad-model", f"transformers cannot make it: {reason}", where="$.model.params",
                         hint="take another model_type or other sizes") from problem  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' reports about weights that a new head does not have."""
    before = _logging.get_verbosity()
    bars = _logging.is_progress_bar_enabled()
    _logging.set_verbosity_error()
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        _logging.set_verbosity(before)
        if bars:
            _logging.enable_progress_bar()

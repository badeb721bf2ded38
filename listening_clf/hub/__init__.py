"""Where a checkpoint comes from: bundled with the library, a folder, or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from listening_clf.checkpoint import CONFIG, MANIFEST, NEEDED_TO_PREDICT, NEEDED_TO_TRAIN
from listening_clf.errors import CheckpointError

BUNDLED = Path(__file__).parent / "models"
DEFAULT_MODEL = "small"


def bundled_models() -> tuple[str, ...]:
    """The names of the models that come with the library."""
    return tuple(sorted(manifest.parent.name for manifest in BUNDLED.glob(f"*/{MANIFEST}")))


def locate(name_or_path: str | Path | None = None, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint; where it lies on the hub, what predicting needs is downloaded first.

    Args:
        name_or_path: a bundled model's name (None: the default one), a folder, or a hub id, looked for in this order.
        revision: a branch, tag or commit of the hub.

    Raises:
        CheckpointError: nothing is there by that name.
    """
    name = DEFAULT_MODEL if name_or_path is None else str(name_or_path)
    if folder := _local(name):
        return folder
    if isinstance(name_or_path, str) and _is_hub_id(name):
        return _download(name, revision, NEEDED_TO_PREDICT)
    raise _no_such_model(name)


def locate_base(name_or_path: str) -> str:
    """What a model to train from is loaded by: its folder, or the hub id of a plain encoder.

    Of a listening_clf checkpoint on the hub, what training needs is downloaded first.

    Raises:
        CheckpointError: nothing is there by that name.
    """
    if folder := _local(name_or_path):
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{name_or_path} is no model: it has no {CONFIG}")
        return str(folder)
    if not _is_hub_id(name_or_path):
        raise _no_such_model(name_or_path)
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        huggingface_hub.hf_hub_download(name_or_path, MANIFEST)
    except (EntryNotFoundError, LocalEntryNotFoundError):  # a plain encoder, on the hub or in the cache
        return name_or_path
    except Exception as error:
        raise _not_to_be_had(name_or_path, error) from error
    return str(_download(name_or_path, None, NEEDED_TO_TRAIN))


def _local(name: str) -> Path | None:
    """The folder of a bundled model, or the folder itself; None where neither is there."""
    if name in bundled_models():
        return BUNDLED / name
    return Path(name) if Path(name).is_dir() else None


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/"))


def _download(repo_id: str, revision: str | None, needed: tuple[str, ...]) -> Path:
    import huggingface_hub

    try:
        files = [MANIFEST, *needed]
        folder = huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files)
    except Exception as error:  # huggingface_hub's own, the HTTP client's, the file system's
        raise _not_to_be_had(repo_id if revision is None else f"{repo_id} at revision {revision}", error) from error
    return Path(folder)


def _not_to_be_had(wanted: str, error: Exception) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0]
    return CheckpointError(f"the model {wanted} is no local folder and cannot be had from the hub: {reason}")


def _no_such_model(name: str) -> CheckpointError:
    return CheckpointError(
        f"there is no model {name!r}: expected a bundled model ({', '.join(bundled_models())}), "
        "a checkpoint folder, or a hub id such as org/name"
    )

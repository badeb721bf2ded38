"""The Hugging Face hub, by its own client: its cache, its environment variables (HF_ENDPOINT, HF_HUB_OFFLINE,
HF_TOKEN), its progress bars.

huggingface_hub is imported where it is used: to load a model that lies on this machine takes a third of the time that
the import takes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from listening_clf.checkpoint import MANIFEST, Checkpoint
from listening_clf.errors import CheckpointError
from listening_clf.hub.card import read_card
from listening_clf.hub.common import DEFAULT_ACCESS, ID, MAIN, TAG, Access, Published

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, HfApi, ModelInfo


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, at a branch, tag or commit (None: `main`)."""

    repo_id: str
    revision: str | None = None
    access: Access = DEFAULT_ACCESS
    is_remote = True

    @property
    def name(self) -> str:
        """NAME or NAME@REVISION."""
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    def fetch(self, needed: Sequence[str]) -> Path:
        """The folder in the cache, after the manifest and the needed files that it lacks are downloaded.

        Raises:
            CheckpointError: no such model or revision, no right to it, or no way to the hub and not in the cache.
        """
        return self.download([MANIFEST, *map(escape, needed)])

    def download(self, patterns: Sequence[str], *, ignore: Sequence[str] = ()) -> Path:
        """The folder in the cache, after the files that match a pattern and are not ignored are downloaded.

        Raises:
            CheckpointError: as of `fetch`.
        """
        import huggingface_hub

        with self._explained():
            folder = huggingface_hub.snapshot_download(
                self.repo_id,
                revision=self.revision,
                allow_patterns=[*patterns],
                ignore_patterns=[*ignore] or None,
                **self.access._asdict(),
            )
        return Path(folder)

    def info(self) -> ModelInfo:
        """What the hub says of the model: its commit, whether it is private, its files and their sizes.

        Raises:
            CheckpointError: as of `fetch`; the cache cannot answer.
        """
        with self._explained():
            return self._api().model_info(self.repo_id, revision=self.revision, files_metadata=True)

    def revisions(self) -> dict[str, str]:
        """The model's branches and tags, and the commit of each.

        Raises:
            CheckpointError: as of `fetch`; the cache cannot answer.
        """
        with self._explained():
            refs = self._api().list_repo_refs(self.repo_id)
        return {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}

    def history(self) -> list[Published]:
        """The commits of the revision, the last first.

        Raises:
            CheckpointError: as of `fetch`; the cache cannot answer.
        """
        with self._explained():
            commits = self._api().list_repo_commits(self.repo_id, revision=self.revision)
        return [
            Published(it.created_at.isoformat(timespec="seconds"), it.commit_id, it.title, ", ".join(it.authors))
            for it in commits
        ]

    def publish(self, checkpoint: Checkpoint, *, message: str | None = None, private: bool | None = None) -> str:
        """Upload the checkpoint as one commit to the revision, a branch; repository and branch are made if need be.

        Returns:
            NAME@COMMIT, by which these very files are had, whatever is published later.

        Raises:
            CheckpointError: the checkpoint is not whole, was altered or has a card that cannot be read; the revision
                cannot be a branch; the repository is there and is not as `private` says; the hub refuses, or cannot be
                reached.
        """
        branch = self.revision or MAIN
        if ID.fullmatch(branch):
            raise CheckpointError(f"a model is published to a branch, not to a commit such as {branch}")
        read_card(checkpoint.folder)
        api = self._api()
        with tempfile.TemporaryDirectory() as scratch, self._explained(publishing=True):
            checkpoint.copy_into(Path(scratch))
            api.create_repo(self.repo_id, private=private, exist_ok=True)
            self._check_visibility(api, private)
            with self._branch(api, branch):
                commit = api.upload_folder(
                    repo_id=self.repo_id,
                    folder_path=scratch,
                    revision=branch,
                    commit_message=message or "Upload model with listening_clf",
                    # What the last version had and this one has not; other files are somebody's own.
                    delete_patterns=[*map(escape, self._published_files(api, branch) - set(checkpoint.manifest.files))]
                    or None,
                )
        return f"{self.repo_id}@{commit.oid}"

    def _check_visibility(self, api: HfApi, private: bool | None) -> None:
        if private is not None and bool(api.model_info(self.repo_id).private) != private:
            raise CheckpointError(
                f"the repository {self.repo_id} is {'public' if private else 'private'} already: change that in its "
                "settings on the hub, or push without saying who may see it"
            )

    @contextmanager
    def _branch(self, api: HfApi, branch: str) -> Iterator[None]:
        """The branch, which is there. One that was made for this goes again if nothing comes of it."""
        refs = api.list_repo_refs(self.repo_id)
        if branch in (tag.name for tag in refs.tags):
            raise CheckpointError(f"{branch!r} is a tag of {self.repo_id}, which names one commit for good")
        is_new = branch not in (MAIN, *(ref.name for ref in refs.branches))
        if is_new:
            api.create_branch(self.repo_id, branch=branch)
        try:
            yield
        except BaseException:
            if is_new:
                with suppress(Exception):  # what is wrong is said already
                    api.delete_branch(self.repo_id, branch=branch)
            raise

    def _published_files(self, api: HfApi, branch: str) -> set[str]:
        """The files that the manifest on the hub lists."""
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            manifest = api.hf_hub_download(self.repo_id, MANIFEST, revision=branch)
            return set(json.loads(Path(manifest).read_text(encoding="utf-8"))["files"])
        except (RemoteEntryNotFoundError, ValueError, KeyError, TypeError):  # there is none, or none that is one
            return set()

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(token=self.access.token)

    @contextmanager
    def _explained(self, *, publishing: bool = False) -> Iterator[None]:
        """Say in one sentence what is wrong, and what to do."""
        from huggingface_hub import errors

        log_in = "log in with `hf auth login`, or set HF_TOKEN to a token that may"
        try:
            yield
        except CheckpointError:
            raise
        except errors.GatedRepoError as error:
            raise CheckpointError(
                f"the model {self.repo_id} is given to those who accept its terms: do so on its page on the hub, with "
                "the account whose token is used"
            ) from error
        except errors.RepositoryNotFoundError as error:
            if publishing:
                raise CheckpointError(f"the hub lets nobody publish {self.repo_id} so: {log_in} write there") from error
            raise CheckpointError(
                f"the model {self.repo_id} is no local folder, and the hub shows none of that name: it may be private; "
                f"then {log_in} read it"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise CheckpointError(
                f"the model {self.repo_id} has no revision {self.revision!r}{self._known_revisions()}"
            ) from error
        except errors.LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"the model {self.name} is no local folder, and not in the cache as far as it is needed, and "
                f"{self._why_not_asked(error)}"
            ) from error
        except Exception as error:  # the client's own, the HTTP library's, the file system's
            aim = "published to" if publishing else "had from"
            raise CheckpointError(f"the model {self.name} cannot be {aim} the hub: {_reason(error)}") from error

    def _known_revisions(self) -> str:
        try:
            return f": it has {', '.join(self.revisions())}, and its commits"
        except CheckpointError:  # what is wrong is said already
            return ""

    def _why_not_asked(self, error: Exception) -> str:
        from huggingface_hub import constants, errors

        if self.access.local_files_only:
            return "the hub is not asked (local_files_only): `listening-clf hub pull` downloads it"
        if constants.is_offline_mode():
            return "the hub is not asked while HF_HUB_OFFLINE is set"
        cause = error.__cause__ or error
        said = "does not give it" if isinstance(cause, errors.HfHubHTTPError) else "cannot be reached"
        return f"the hub {said}: {_reason(cause)}"


def cached_models() -> list[CachedRepoInfo]:
    """The models of this library in the cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    own = (repo for repo in repositories if any((it.snapshot_path / MANIFEST).exists() for it in repo.revisions))
    return sorted(own, key=lambda repo: repo.repo_id)


def published_models(search: str | None = None, *, limit: int = 50) -> list[ModelInfo]:
    """The models on the hub that carry this library's tag, most downloaded first.

    Raises:
        CheckpointError: the hub cannot be reached, or refuses to answer.
    """
    from huggingface_hub import HfApi, constants, get_session

    try:
        # The listing itself is tried again and again, for 23 s, where there is no network.
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return list(HfApi().list_models(filter=TAG, search=search, sort="downloads", limit=limit))
    except Exception as error:
        raise CheckpointError(f"the hub cannot be asked for its models: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What the server says of it, or else the first line of what the client says."""
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    return said.strip().partition("\n")[0]

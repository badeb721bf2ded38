"""A hub on loopback that speaks the Hugging Face hub's HTTP API to the real `huggingface_hub` client.

It knows models (no datasets, no spaces), branches, tags and Git LFS, and keeps everything in memory. It knows no pull
requests and no Xet: a client that has hf_xet uploads large files by nothing else, unless HF_HUB_DISABLE_XET is set.

The client is not imported here: it reads HF_ENDPOINT when it is imported, and a test may yet set it to this server.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any, Literal, Self
from urllib.parse import unquote, urlencode

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

HOST = "127.0.0.1"
MAIN = "main"
LARGE = 100_000
UNAUTHORIZED = "Invalid username or password."

_FRONT_MATTER = re.compile(r"\s*---(?:\r\n|\r|\n)([\S\s]*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)")  # the hub's own
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@lru_cache(maxsize=64)
def sha256(content: bytes) -> str:
    """What Git LFS knows a file by."""
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    """What git knows a file by."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def is_lfs(path: str, size: int) -> bool:
    """Whether the hub wants the file by Git LFS. An empty one the client sends without, whatever it is told."""
    return size > 0 and (size > LARGE or path.endswith((".safetensors", ".onnx", ".onnx.data")))


def etag(path: str, content: bytes) -> str:
    """By what the client tells whether it has a content: before it downloads, and before it uploads."""
    return sha256(content) if is_lfs(path, len(content)) else git_oid(content)


def stored(path: str, content: bytes, oid: str, lfs_oid: str) -> dict[str, Any]:
    """Size and ids of a file; the hub's answers differ in what they call the ids."""
    size = len(content)
    if not is_lfs(path, size):
        return {"size": size, oid: git_oid(content)}
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {size}\n".encode()
    lfs = {lfs_oid: sha256(content), "size": size, "pointerSize": len(pointer)}
    return {"size": size, oid: git_oid(pointer), "lfs": lfs}


def read_card(card: str) -> dict[str, Any] | None:
    """The front matter of a model card, None where there is none."""
    match = _FRONT_MATTER.match(card)
    metadata = yaml.safe_load(match[1]) if match else None
    if not isinstance(metadata, dict | None):
        raise yaml.YAMLError("The metadata must be a mapping")
    return metadata


def refusal(status: int, message: str, code: str | None = None, headers: Mapping[str, str] = {}) -> HTTPException:
    """An error as the hub answers it: by the code the client knows what to raise, the message is for its user."""
    codes = {} if code is None else {"X-Error-Code": code}
    return HTTPException(status, message, {"X-Error-Message": message, **codes, **headers})


def byte_range(header: str, size: int) -> tuple[int, int]:
    """Where the part of a file that a Range header asks for begins and ends."""
    match = _RANGE.fullmatch(header)
    if match is None or int(match[1]) >= size:
        raise refusal(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size


def part(request: Request, name: str, default: str = "") -> str:
    """A part of the path; the client quotes a slash in it, that of `feature/x` say."""
    return unquote(request.path_params.get(name, default))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, eq=False)
class Commit:
    """What a repository's files were at one time."""

    files: Mapping[str, bytes]
    title: str
    message: str = ""
    parent: Commit | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(20))
    date: str = field(default_factory=_now)

    def history(self) -> Iterator[Commit]:
        """This commit and those before it, newest first."""
        commit: Commit | None = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def tree(self, folder: str, *, recursive: bool, expand: bool) -> list[dict[str, Any]]:
        """What the folder has in it, as the hub lists it."""
        root, files = PurePosixPath(folder), {PurePosixPath(path) for path in self.files}
        return [
            self._entry(str(path), expand=expand)
            for path in sorted(files | {parent for path in files for parent in path.parents})
            if root in path.parents and (recursive or path.parent == root)
        ]

    def _entry(self, path: str, *, expand: bool) -> dict[str, Any]:
        if path not in self.files:
            return {"type": "directory", "path": path, "oid": git_oid(path.encode())}
        content = self.files[path]
        entry = {"type": "file", "path": path, **stored(path, content, "oid", "oid")}
        if expand:
            *_, changed = takewhile(lambda commit: commit.files.get(path) == content, self.history())
            entry["lastCommit"] = {"id": changed.id, "title": changed.title, "date": changed.date}
        return entry


class Repository:
    """A model: its commits, what its branches and tags name, and the LFS objects that were uploaded to it."""

    def __init__(self, repo_id: str, *, private: bool = False, gated: bool = False) -> None:
        self.id = repo_id
        self.owner = repo_id.partition("/")[0]
        self.private = private
        self.gated = gated
        """Everybody sees what there is; only the owner gets it."""
        self.objects: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        first = Commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit")
        self.commits = {first.id: first}
        self.branches = {MAIN: first.id}

    def at(self, revision: str, *, branch_only: bool = False) -> Commit:
        """What a branch names, a tag or a commit's id; only a branch can be committed to."""
        commit_id = self.branches.get(revision, "")
        if not branch_only:
            commit_id = commit_id or self.tags.get(revision, revision)
        if commit_id not in self.commits:
            raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit_id]

    def commit(self, branch: str, changes: Mapping[str, bytes | None], title: str, message: str = "") -> Commit:
        """Add a commit to the branch; None deletes a file."""
        parent = self.at(branch, branch_only=True)
        merged = {**parent.files, **changes}
        files = {path: content for path, content in merged.items() if content is not None}
        self.objects |= {sha256(content): content for path, content in files.items() if is_lfs(path, len(content))}
        commit = Commit(files, title, message, parent)
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def changes(self, files: Mapping[str, bytes], operation: str, value: Mapping[str, Any]) -> dict[str, bytes | None]:
        """What one line of the client's commit does to the files."""
        path: str = value["path"]
        if operation == "file":
            return {path: base64.b64decode(value["content"])}
        if operation == "lfsFile":
            if value["oid"] not in self.objects:
                raise refusal(400, f"LFS pointer pointed to a file that does not exist: {path}")
            return {path: self.objects[value["oid"]]}
        deleted = [path] if path in files else []
        if operation == "deletedFolder":
            deleted = [name for name in files if name.startswith(path.rstrip("/") + "/")]
        if not deleted:
            raise refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        return dict.fromkeys(deleted)

    def description(self, commit: Commit) -> dict[str, Any]:
        """What the hub says of the model; it is found by what the card on `main` states."""
        try:
            card = read_card(self.at(MAIN).files.get("README.md", b"").decode()) or {}
        except yaml.YAMLError:
            card = {}
        fields: dict[str, Any] = {name: card[name] for name in ("library_name", "pipeline_tag") if name in card}
        return {
            "id": self.id,
            "author": self.owner,
            "sha": commit.id,
            "lastModified": commit.date,
            "private": self.private,
            "gated": "auto" if self.gated else False,
            "downloads": 0,
            "likes": 0,
            "tags": [*fields.values(), *(card.get("tags") or [])],
            **fields,
        }


class _CutShort(Response):
    """An answer that is never completed: uvicorn then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})


class HubServer:
    """The hub. While entered, it serves from a thread that has an event loop of its own."""

    endpoint: str
    """What HF_ENDPOINT should be."""

    def __init__(self) -> None:
        self.tokens: dict[str, tuple[str, Literal["write", "read"]]] = {}
        """Whose a token is, and what for. Users may write to the namespace of their name."""
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and path of all that arrived."""
        self.ranges: list[str] = []
        """The Range headers of it: what was resumed, and where."""
        self.transfers: list[tuple[str, str, int]] = []
        """Repository, path and bytes of every content that was sent, also of what was cut off."""
        self._cut: int | None = None
        self._app = Starlette(routes=self._routes(), exception_handlers={HTTPException: self._refuse})

    def __enter__(self) -> Self:
        listener = self._bound(port=0)
        self._port: int = listener.getsockname()[1]
        self.endpoint = f"http://{HOST}:{self._port}"
        # Another host, as the hub's storage is: to it the client sends no token, and does not follow with a HEAD.
        self._storage = f"http://localhost:{self._port}"
        self._start(listener)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def downloaded(self, repo_id: str) -> set[str]:
        """The files of the repository whose content was sent."""
        return {path for repository, path, _ in self.transfers if repository == repo_id}

    def sent(self, repo_id: str, path: str) -> int:
        """How many bytes of that file were sent, all downloads together."""
        return sum(size for *file, size in self.transfers if file == [repo_id, path])

    def commit(self, repo_id: str, changes: Mapping[str, bytes | None], revision: str = MAIN) -> str:
        """Change a branch behind its users' back (None deletes a file), and give the commit's id."""
        return self.repositories[repo_id].commit(revision, changes, "Change files").id

    def cut_downloads_after(self, n_bytes: int) -> None:
        """Close the connection after that much of the next file that is longer, once."""
        self._cut = n_bytes

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Refuse all connections meanwhile."""
        self._stop()
        held = self._bound(self._port)  # refuses while it does not listen, and nobody else gets the port
        try:
            yield
        finally:
            self._start(held)

    @staticmethod
    def _bound(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        return bound

    def _start(self, listener: socket.socket) -> None:
        options: dict[str, Any] = {"log_config": None, "log_level": "error", "timeout_graceful_shutdown": 1}
        self._server = uvicorn.Server(uvicorn.Config(self._receive, interface="asgi3", lifespan="off", **options))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        listener.listen()  # from here on connections wait for the thread
        self._thread.start()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the request, and leave its path quoted: a quoted slash separates nothing."""
        self.requests.append((scope["method"], scope["path"]))
        await self._app({**scope, "path": scope["raw_path"].decode()}, receive, send)

    def _routes(self) -> list[Route]:
        model, git = "/api/models/{owner}/{name}", "/{owner}/{name}.git/info/lfs/objects"
        return [
            Route("/api/whoami-v2", self._whoami),
            Route("/api/validate-yaml", self._validate_card, methods=["POST"]),
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route("/api/models", self._list),
            Route(model, self._info),
            Route(model + "/revision/{revision}", self._info),
            Route(model + "/tree/{revision}", self._tree),
            Route(model + "/tree/{revision}/{folder:path}", self._tree),
            Route(model + "/refs", self._refs),
            Route(model + "/commits/{revision}", self._commits),
            Route(model + "/branch/{branch}", self._create_branch, methods=["POST"]),
            Route(model + "/branch/{branch}", self._delete_branch, methods=["DELETE"]),
            Route(model + "/tag/{revision}", self._create_tag, methods=["POST"]),
            Route(model + "/preupload/{branch}", self._preupload, methods=["POST"]),
            Route(model + "/commit/{branch}", self._commit, methods=["POST"]),
            Route(git + "/batch", self._lfs_batch, methods=["POST"]),
            Route(git + "/verify", self._lfs_verify, methods=["POST"]),
            Route("/lfs/{oid}", self._lfs_upload, methods=["PUT"]),
            Route("/lfs/{oid}", self._lfs_download),
            Route("/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve),
        ]

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    def _user(self, request: Request) -> tuple[str | None, str]:
        """Who asks, and what the token is for; a wrong token is refused even where none is needed."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return None, "read"
        token = authorization.removeprefix("Bearer ")
        if token not in self.tokens:
            raise refusal(401, UNAUTHORIZED)
        return self.tokens[token]

    def _repository(self, request: Request, *, write: bool = False, content: bool = False) -> Repository:
        """The repository that the path names, if who asks may do that with it."""
        user, role = self._user(request)
        repository = self.repositories.get(f"{part(request, 'owner')}/{part(request, 'name')}")
        hidden = repository is None or (repository.private and repository.owner != user)
        if user is None and (hidden or write):
            # The client takes a 401 of https://… for RepoNotFound by itself, one of http://… only by the code.
            raise refusal(401, UNAUTHORIZED, "RepoNotFound")
        if repository is None or hidden:
            raise refusal(404, "Repository not found", "RepoNotFound")
        if write and (repository.owner != user or role != "write"):
            raise refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        if content and repository.gated and repository.owner != user:
            raise refusal(401 if user is None else 403, f"Access to model {repository.id} is restricted", "GatedRepo")
        return repository

    async def _whoami(self, request: Request) -> Response:
        user, role = self._user(request)
        if user is None:
            raise refusal(401, UNAUTHORIZED)
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        return JSONResponse({"type": "user", "name": user, "orgs": [], "auth": auth})

    async def _validate_card(self, request: Request) -> Response:
        self._user(request)
        try:
            metadata = read_card((await request.json())["content"])
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        return JSONResponse({"errors": [], "warnings": warnings})

    async def _create(self, request: Request) -> Response:
        user, role = self._user(request)
        if user is None:
            raise refusal(401, UNAUTHORIZED)
        asked = await request.json()
        owner = asked.get("organization") or user
        if owner != user or role != "write":
            raise refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        repo_id = f"{owner}/{asked['name']}"
        answer = {"name": repo_id, "url": f"{self.endpoint}/{repo_id}"}
        if repo_id in self.repositories:
            return JSONResponse({"error": "You already created this model repo", **answer}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))  # older clients say the latter
        self.repositories[repo_id] = Repository(repo_id, private=private)
        return JSONResponse(answer)

    async def _list(self, request: Request) -> Response:
        user, _ = self._user(request)
        query = request.query_params
        tags, search = set(query.getlist("filter")), query.get("search", "").lower()
        visible = [it for it in self.repositories.values() if not it.private or it.owner == user]
        models = [it.description(it.at(MAIN)) for it in visible if search in it.id.lower()]
        found = [model for model in models if tags <= set(model["tags"])]
        return JSONResponse(found[: int(query.get("limit", len(found)))])

    async def _info(self, request: Request) -> Response:
        repository = self._repository(request)
        commit = repository.at(part(request, "revision", MAIN))
        blobs = request.query_params.get("blobs") == "true"
        siblings = [
            {"rfilename": path, **(stored(path, content, "blobId", "sha256") if blobs else {})}
            for path, content in sorted(commit.files.items())
        ]
        return JSONResponse({**repository.description(commit), "siblings": siblings})

    async def _tree(self, request: Request) -> Response:
        commit, folder = self._repository(request).at(part(request, "revision")), part(request, "folder")
        recursive, expand = (request.query_params.get(name) == "true" for name in ("recursive", "expand"))
        entries = commit.tree(folder, recursive=recursive, expand=expand)
        if folder and not entries:
            raise refusal(404, "Entry not found", "EntryNotFound")
        return JSONResponse(entries)

    async def _refs(self, request: Request) -> Response:
        repository = self._repository(request)

        def listed(kind: str, refs: Mapping[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        branches, tags = listed("heads", repository.branches), listed("tags", repository.tags)
        return JSONResponse({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    async def _commits(self, request: Request) -> Response:
        repository = self._repository(request)
        authors = [{"user": repository.owner}]
        commits = [
            {"id": it.id, "title": it.title, "message": it.message, "date": it.date, "authors": authors}
            for it in repository.at(part(request, "revision")).history()
        ]
        return JSONResponse(commits)

    async def _create_branch(self, request: Request) -> Response:
        repository, branch = self._repository(request, write=True), part(request, "branch")
        if branch in repository.branches:
            raise refusal(409, f"Reference already exists: refs/heads/{branch}")
        repository.branches[branch] = repository.at((await request.json()).get("startingPoint", MAIN)).id
        return JSONResponse({})

    async def _delete_branch(self, request: Request) -> Response:
        repository, branch = self._repository(request, write=True), part(request, "branch")
        if branch == MAIN:
            raise refusal(403, f"Cannot delete refs/heads/{MAIN}")
        repository.at(branch, branch_only=True)
        del repository.branches[branch]
        return JSONResponse({})

    async def _create_tag(self, request: Request) -> Response:
        repository, tag = self._repository(request, write=True), (await request.json())["tag"]
        if tag in repository.tags:
            raise refusal(409, f"Tag reference exists already: refs/tags/{tag}")
        repository.tags[tag] = repository.at(part(request, "revision")).id
        return JSONResponse({})

    async def _preupload(self, request: Request) -> Response:
        """How each file is to be sent, and what the branch has of it: the client leaves out what is the same."""
        there = self._repository(request, write=True).at(part(request, "branch"), branch_only=True).files
        files = [
            {
                "path": path,
                "uploadMode": "lfs" if is_lfs(path, size) else "regular",
                "shouldIgnore": False,
                "oid": etag(path, there[path]) if path in there else None,
            }
            for path, size in ((file["path"], file["size"]) for file in (await request.json())["files"])
        ]
        return JSONResponse({"files": files})

    async def _commit(self, request: Request) -> Response:
        repository, branch = self._repository(request, write=True), part(request, "branch")
        head = repository.at(branch, branch_only=True)
        header, *operations = map(json.loads, (await request.body()).splitlines())
        summary = header["value"]
        if not head.id.startswith(summary.get("parentCommit", head.id)):
            raise refusal(412, "A commit has happened since. Please refresh and try again.")
        changes: dict[str, bytes | None] = {}
        for operation in operations:
            changes |= repository.changes(head.files, operation["key"], operation["value"])
        commit = repository.commit(branch, changes, summary["summary"], summary.get("description", ""))
        url = f"{self.endpoint}/{repository.id}/commit/{commit.id}"
        return JSONResponse({"success": True, "commitOid": commit.id, "commitUrl": url})

    async def _lfs_batch(self, request: Request) -> Response:
        """Where each object goes to; nowhere if it is there already."""
        repository = self._repository(request, write=True)
        objects = (await request.json())["objects"]
        for it in objects:
            if it["oid"] not in repository.objects:
                upload = f"{self._storage}/lfs/{it['oid']}?{urlencode({'repo': repository.id})}"
                verify = f"{self.endpoint}/{repository.id}.git/info/lfs/objects/verify"
                it["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _lfs_upload(self, request: Request) -> Response:
        content = await request.body()
        if sha256(content) != part(request, "oid"):
            raise refusal(400, "The content is not what its oid says")
        self.repositories[request.query_params["repo"]].objects[sha256(content)] = content
        return Response()

    async def _lfs_verify(self, request: Request) -> Response:
        objects, asked = self._repository(request, write=True).objects, await request.json()
        if len(objects.get(asked["oid"], b"")) != asked["size"]:
            raise refusal(404, "The object was not uploaded")
        return JSONResponse({})

    async def _lfs_download(self, request: Request) -> Response:
        """The content of a file whose link `_resolve` gave; the link names the file, for `transfers`."""
        oid, query = part(request, "oid"), request.query_params
        return self._content(request, query["repo"], query["path"], self.repositories[query["repo"]].objects[oid], oid)

    async def _resolve(self, request: Request) -> Response:
        repository = self._repository(request, content=True)
        commit, path = repository.at(part(request, "revision")), part(request, "path")
        headers = {"X-Repo-Commit": commit.id}
        if path not in commit.files:
            raise refusal(404, "Entry not found", "EntryNotFound", headers)
        content = commit.files[path]
        oid, size = etag(path, content), len(content)
        if not is_lfs(path, size):
            return self._content(request, repository.id, path, content, oid, headers)
        headers |= {"Accept-Ranges": "bytes", "X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(size)}
        link = f"{self._storage}/lfs/{oid}?{urlencode({'repo': repository.id, 'path': path})}"
        return RedirectResponse(link, 302, headers)

    def _content(
        self, request: Request, repo_id: str, path: str, content: bytes, oid: str, headers: Mapping[str, str] = {}
    ) -> Response:
        """A file's content, or what is asked for of it."""
        headers = {**headers, "ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        status, size = 200, len(content)
        if wanted := request.headers.get("Range"):
            self.ranges.append(wanted)
            start, end = byte_range(wanted, size)
            status, content = 206, content[start:end]
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(len(content))
        answer = Response
        if request.method == "GET":
            if self._cut is not None and self._cut < len(content):
                answer, content, self._cut = _CutShort, content[: self._cut], None
            self.transfers.append((repo_id, path, len(content)))
        return answer(content, status, headers)

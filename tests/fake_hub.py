"""A hub on loopback: repositories of plain files at commits, with branches, listings and ranges."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Files by name at each commit, where the branches are, and what the card says."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    licence: str = "mit"
    gated: bool = False


@dataclass
class Hub:
    """Repositories by "models/org/name"; `fetched` counts downloads of each file."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    requests: int = 0
    lies: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def add(self, kind: str, name: str, commit: str, files: dict[str, bytes], **about) -> None:
        """Put files at a commit, which becomes the head of main."""
        key = f"{kind}/{name}"
        known = self.repositories.setdefault(key, Repository({}, {}, **about))
        known.commits[commit] = files
        known.branches["main"] = commit

    def add_folder(self, kind: str, name: str, commit: str, folder: Path) -> None:
        """Put a folder's files at a commit."""
        files = {
            str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()
        }
        self.add(kind, name, commit, files)


def lfs(name: str) -> bool:
    """Say whether the hub would keep a file in LFS, known by its SHA-256."""
    return name.endswith((".safetensors", ".parquet", ".gz"))


def git_digest(content: bytes) -> str:
    """Return the SHA-1 that git knows a file by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name: str, content: bytes) -> dict:
    """Return what the hub lists of a file."""
    said = {"rfilename": name, "size": len(content), "blobId": git_digest(content)}
    if lfs(name):
        sha = hashlib.sha256(content).hexdigest()
        said["lfs"] = {"size": len(content), "sha256": sha, "pointerSize": 100}
    return said


def leaf(name: str, content: bytes) -> dict:
    """Return what the hub lists of a file in the tree of a commit."""
    said = {"type": "file", "path": name, "size": len(content), "oid": git_digest(content)}
    if lfs(name):
        sha = hashlib.sha256(content).hexdigest()
        said["lfs"] = {"size": len(content), "oid": sha, "pointerSize": 100}
    return said


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        hub: Hub = self.server.hub
        hub.requests += 1
        path = unquote(urlsplit(self.path).path)
        if found := API.fullmatch(path):
            return self.listing(hub, f"{found[1]}/{found[2]}", found[4] or "main", found[3])
        if found := FILE.fullmatch(path):
            kind = "datasets" if found[1] else "models"
            return self.file(hub, f"{kind}/{found[2]}", found[3], found[4], with_body)
        return self.send(404, b"{}", {}, with_body)

    def listing(self, hub: Hub, key: str, revision: str, asked: str | None) -> None:
        one = hub.repositories.get(key)
        if one is None or one.gated:
            code = "GatedRepo" if one else "RepoNotFound"
            return self.send(403 if one else 404, b"{}", {"X-Error-Code": code}, True)
        commit = one.branches.get(revision, revision)
        if commit not in one.commits:
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, True)
        name, kind = key.split("/", 1)[1], {"Content-Type": "application/json"}
        if asked == "tree":
            leaves = [leaf(file, body) for file, body in one.commits[commit].items()]
            return self.send(200, json.dumps(leaves).encode(), kind, True)
        said = {
            "id": name,
            "sha": commit,
            "private": False,
            "tags": [f"license:{one.licence}"],
            "siblings": [entry(file, body) for file, body in one.commits[commit].items()],
        }
        return self.send(200, json.dumps(said).encode(), kind, True)

    def file(self, hub: Hub, key: str, commit: str, name: str, with_body: bool) -> None:
        content = hub.repositories[key].commits.get(commit, {}).get(name)
        if content is None:
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, with_body)
        content = hub.lies.get(name, content)
        if with_body:
            hub.fetched.append(name)
        digest = hashlib.sha256(content).hexdigest() if lfs(name) else git_digest(content)
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        return self.send(200, content, headers, with_body)

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serving():
    """Yield a hub that is served on a free port of loopback while this lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

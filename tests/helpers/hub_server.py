"""A read-only stand-in for the Hugging Face Hub, for tests that must not touch the internet.

It serves a directory tree over real HTTP so that the *unmodified* client libraries
(huggingface_hub, transformers, datasets, evaluate) can be pointed at it with ``HF_ENDPOINT``::

    ROOT/
      models/google-bert/bert-base-uncased/{config.json,tokenizer.json,model.safetensors,...}
      models/legacy-name/...                      # ids without a namespace work too
      datasets/nyu-mll/glue/README.md             # the YAML header declares the configs
      datasets/nyu-mll/glue/sst2/train-00000-of-00001.parquet
      spaces/evaluate-metric/accuracy/accuracy.py

    $ python hub_server.py ROOT --port 8123
    $ HF_ENDPOINT=http://127.0.0.1:8123 HF_HOME=$(mktemp -d) python my_script.py

or, inside a test::

    with HubServer(root) as hub:
        env["HF_ENDPOINT"] = hub.endpoint
        ...
        assert hub.count("GET", r"model\\.safetensors") == 1

What is imitated (and nothing more):

* one revision per repository: ``main``, whose commit id is derived from the files' contents,
  so editing a file on disk produces a new commit id, and that id can be used as a pin;
* small files answer 200 with ``ETag`` = git blob id; "LFS" files (by suffix or size) answer
  302 to a second port (the clients stop following redirects only at a foreign origin, and read
  the metadata there) with ``X-Linked-Etag`` = sha256 and ``X-Linked-Size``, as the Hub's CDN;
* byte ranges, which resumed downloads and ``streaming=True`` need;
* renamed repositories (``bert-base-uncased`` -> ``google-bert/bert-base-uncased``) as 307s;
* the Hub's error headers (``X-Error-Code: RepoNotFound | RevisionNotFound | EntryNotFound``);
* faults on request: error statuses, stalls, dropped connections, truncated or altered bodies.

No uploads, tokens, gated repositories, git, Xet or dataset-viewer service: those answer as
"absent", which the clients tolerate. Standard library only; binds to the loopback by default.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

DEFAULT_ALIASES = {
    "models/bert-base-uncased": "google-bert/bert-base-uncased",
    "models/distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "datasets/glue": "nyu-mll/glue",
    "datasets/wikitext": "Salesforce/wikitext",
}
KINDS = ("models", "datasets", "spaces")  # spaces: where `evaluate.load` looks for metric scripts
LFS_SUFFIXES = {".safetensors", ".bin", ".pt", ".h5", ".onnx", ".parquet", ".arrow", ".gz", ".zip"}
LFS_BYTES = 10 * 1024 * 1024  # the Hub's own threshold for text files
CHUNK = 1 << 16
LAST_MODIFIED = "2024-01-01T00:00:00.000Z"


# --------------------------------------------------------------------------- repositories


@dataclass(frozen=True)
class Entry:
    """One file of a repository."""

    path: str  # POSIX, relative to the repository
    disk: Path
    size: int
    blob_id: str  # what `git hash-object` would print
    sha256: str | None  # set for LFS files only

    def as_json(self) -> dict:
        out = {"type": "file", "path": self.path, "size": self.size, "oid": self.blob_id}
        if self.sha256:
            out["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return out


class Repo:
    """A directory presented as a repository with the single branch ``main``."""

    def __init__(self, kind: str, repo_id: str, directory: Path):
        self.kind, self.id, self.directory = kind, repo_id, directory
        self._stamp: tuple | None = None
        self._entries: dict[str, Entry] = {}
        self._commit = ""
        self._lock = threading.Lock()

    def _scan(self) -> None:
        files = sorted(p for p in self.directory.rglob("*") if p.is_file() and not p.is_symlink())
        stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
        with self._lock:
            if stamp == self._stamp:
                return
            entries = {}
            for disk in files:
                path = disk.relative_to(self.directory).as_posix()
                data = disk.read_bytes()
                lfs = disk.suffix in LFS_SUFFIXES or len(data) >= LFS_BYTES
                blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                entries[path] = Entry(
                    path, disk, len(data), blob, hashlib.sha256(data).hexdigest() if lfs else None
                )
            listing = "\n".join(f"{e.blob_id} {e.path}" for e in entries.values())
            self._commit = hashlib.sha1(f"{self.kind}/{self.id}\n{listing}".encode()).hexdigest()
            self._entries, self._stamp = entries, stamp

    @property
    def entries(self) -> dict[str, Entry]:
        self._scan()
        return self._entries

    @property
    def commit(self) -> str:
        self._scan()
        return self._commit

    def has_revision(self, revision: str) -> bool:
        return revision in ("main", "refs/heads/main", self.commit)

    def info(self) -> dict:
        return {
            "_id": self.commit[:24],
            "id": self.id,
            "modelId" if self.kind == "models" else "datasetId": self.id,
            "author": self.id.split("/")[0] if "/" in self.id else None,
            "sha": self.commit,
            "lastModified": LAST_MODIFIED,
            "createdAt": LAST_MODIFIED,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": p} for p in self.entries],
        }

    def tree(self, folder: str = "", recursive: bool = False) -> list[dict] | None:
        """Files and folders under ``folder``; None where there is no such folder."""
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        rows: dict[str, dict] = {}
        for path, entry in self.entries.items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                name = prefix + "/".join(parts[:depth])
                rows.setdefault(name, self._folder_json(name))
                if not recursive:
                    break
            if recursive or len(parts) == 1:
                rows[path] = entry.as_json()
        return list(rows.values()) if rows or not prefix else None

    def paths_info(self, paths: list[str]) -> list[dict]:
        out = []
        for path in paths:
            if path in self.entries:
                out.append(self.entries[path].as_json())
            elif path and self.tree(path) is not None:
                out.append(self._folder_json(path))
        return out

    @staticmethod
    def _folder_json(path: str) -> dict:
        oid = hashlib.sha1(f"tree {path}".encode()).hexdigest()
        return {"type": "directory", "path": path, "size": 0, "oid": oid}


# --------------------------------------------------------------------------- faults


@dataclass
class Fault:
    """Misbehave on the first ``times`` requests whose ``"METHOD /path"`` matches ``pattern``.

    ``action``: ``status:503`` (any code; 429 adds Retry-After), ``stall:SECONDS``, ``drop`` (close
    without an answer), ``truncate:N`` (declare the full length, send N bytes, close) or
    ``corrupt`` (flip the body's last byte).
    """

    pattern: str
    action: str
    times: int = 1
    hits: int = field(default=0, init=False)

    def take(self, request: str) -> bool:
        if self.hits < self.times and re.search(self.pattern, request):
            self.hits += 1
            return True
        return False


# --------------------------------------------------------------------------- HTTP


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive: the clients pool connections
    server_version = "LocalHub/1"
    hub: HubServer

    def log_message(self, *_args) -> None:  # the request log is hub.requests
        pass

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    # ------------------------------------------------------------- answers

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        if getattr(self, "_status", None) is None:
            self._status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self._fault.startswith("truncate:"):
            body = body[: int(self._fault.split(":")[1])]
            self.close_connection = True
        elif self._fault == "corrupt" and body:
            body = body[:-1] + bytes([body[-1] ^ 0xFF])
        for start in range(0, len(body), CHUNK):
            self.wfile.write(body[start : start + CHUNK])
        if self._fault.startswith("truncate:"):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, value) -> None:
        self._send(
            200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"}
        )

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps({"error": message}).encode()
        extra = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._send(status, body, {"Content-Type": "application/json", **extra, **(headers or {})})

    def _redirect(
        self, location: str, status: int = 307, headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, b"", {"Location": location, **(headers or {})})

    # ------------------------------------------------------------- routing

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        request = f"{self.command} {self.path}"
        self._status: int | None = None
        self._fault = next((f.action for f in self.hub.faults if f.take(request)), "")
        started = time.monotonic()
        try:
            if self._fault == "drop":
                self.close_connection = True
                self._status = 0
                self.connection.shutdown(socket.SHUT_RDWR)
            elif self._fault.startswith("status:"):
                code = int(self._fault.split(":")[1])
                self._error(
                    code, "", "injected fault", {"Retry-After": "1"} if code == 429 else None
                )
            else:
                if self._fault.startswith("stall:"):
                    time.sleep(float(self._fault.split(":")[1]))
                self._route(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.hub._record(
                self.command, self.path, self._status or 0, time.monotonic() - started, self.headers
            )

    def _route(self, body: bytes) -> None:
        url = urlsplit(self.path)
        parts = [unquote(p) for p in url.path.strip("/").split("/")]
        query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        if any(p in ("", ".", "..") or "\0" in p for p in parts):
            return self._error(400, "", "bad path")
        if parts[0] == "_cdn" and len(parts) == 2:
            return self._cdn(parts[1])
        if parts[0] == "api" and len(parts) >= 3 and parts[1] in KINDS:
            return self._api(parts[1], parts[2:], query, body)
        kind, rest = (parts[0], parts[1:]) if parts[0] in KINDS else ("models", parts)
        if "resolve" in rest[1:3]:
            return self._resolve(kind, rest)
        self._error(404, "", "no such endpoint")  # whoami, dataset viewer, xet tokens, ...

    def _find(self, kind: str, parts: list[str]) -> tuple[Repo | None, list[str]]:
        """The repository that ``parts`` starts with, and what follows.

        Redirects and errors are sent here.
        """
        for width in (2, 1):
            if len(parts) < width:
                continue
            name = "/".join(parts[:width])
            target = self.hub.aliases.get(f"{kind}/{name}")
            if target:
                path, _, query = self.path.partition("?")
                old, new = quote(name), quote(target)
                self._redirect(path.replace(old, new, 1) + (f"?{query}" if query else ""))
                return None, []
            repo = self.hub.repo(kind, name)
            if repo:
                return repo, parts[width:]
        # the Hub says 401, not 404, to anonymous callers
        self._error(401, "RepoNotFound", "Repository not found")
        return None, []

    def _api(self, kind: str, parts: list[str], query: dict, body: bytes) -> None:
        repo, rest = self._find(kind, parts)
        if repo is None:
            return None
        verb, revision, tail = (
            rest[0] if rest else "",
            rest[1] if len(rest) > 1 else "main",
            "/".join(rest[2:]),
        )
        if verb in ("revision", "tree", "paths-info", "commits") and not repo.has_revision(
            revision
        ):
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if verb in ("", "revision"):
            return self._json(repo.info())
        if verb == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commit}
            return self._json({"branches": [main], "tags": [], "converts": [], "pullRequests": []})
        if verb == "commits":
            commit = {
                "id": repo.commit,
                "title": "snapshot",
                "message": "",
                "date": LAST_MODIFIED,
                "authors": [],
            }
            return self._json([commit])
        if verb == "tree":
            rows = repo.tree(tail, query.get("recursive", "").lower() in ("true", "1"))
            if rows is None:
                return self._error(404, "EntryNotFound", f"{tail} does not exist on main")
            return self._json(rows)
        if verb == "paths-info":
            if "json" in (self.headers.get("Content-Type") or ""):
                paths = json.loads(body or b"{}").get("paths", [])
            else:
                paths = parse_qs(body.decode()).get("paths", [])
            return self._json(repo.paths_info([paths] if isinstance(paths, str) else paths))
        self._error(404, "", "no such endpoint")

    def _resolve(self, kind: str, parts: list[str]) -> None:
        repo, rest = self._find(kind, parts)
        if repo is None:
            return None
        if len(rest) < 3 or rest[0] != "resolve":
            return self._error(404, "", "no such endpoint")
        revision, path = rest[1], "/".join(rest[2:])
        if not repo.has_revision(revision):
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit = {"X-Repo-Commit": repo.commit}
        entry = repo.entries.get(path)
        if entry is None:
            return self._error(404, "EntryNotFound", "Entry not found", commit)
        if entry.sha256:
            linked = {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
            self.hub._cdn_files[entry.sha256] = entry.disk
            return self._redirect(
                f"{self.hub.cdn_endpoint}/_cdn/{entry.sha256}", 302, {**commit, **linked}
            )
        self._file(entry.disk, entry.blob_id, commit)

    def _cdn(self, sha256: str) -> None:
        disk = self.hub._cdn_files.get(sha256)
        if disk is None:
            return self._error(404, "", "expired")
        self._file(disk, sha256, {})

    def _file(self, disk: Path, etag: str, headers: dict[str, str]) -> None:
        data = disk.read_bytes()
        headers = {
            "ETag": f'"{etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'inline; filename="{quote(disk.name)}"',
            **headers,
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not wanted or wanted.groups() == ("", ""):
            return self._send(200, data, headers)
        first, last = wanted.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start > stop:
            return self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
        self._send(206, data[start : stop + 1], headers)


@dataclass(frozen=True)
class Request:
    """One line of the request log."""

    method: str
    path: str
    status: int
    seconds: float
    range: str | None
    user_agent: str


class HubServer:
    """Serve ``root`` until closed. Usable as a context manager; ``port=0`` picks a free port."""

    def __init__(
        self,
        root: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        aliases: dict[str, str] | None = None,
        faults: list[Fault] | None = None,
    ):
        self.root = Path(root).resolve()
        self.aliases = DEFAULT_ALIASES if aliases is None else aliases
        self.faults = list(faults or [])
        self.requests: list[Request] = []
        self._repos: dict[tuple[str, str], Repo] = {}
        self._cdn_files: dict[str, Path] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer((host, p), handler) for p in (port, 0)]
        # the clients tell the content network from the Hub by the name of the host (older ones by
        # the port too), so the same address gets another name there
        names = (host, "localhost" if host == "127.0.0.1" else host)
        self.endpoint, self.cdn_endpoint = (
            f"http://{name}:{server.server_address[1]}"
            for name, server in zip(names, self._servers, strict=True)
        )

    def repo(self, kind: str, repo_id: str) -> Repo | None:
        directory = self.root / kind / repo_id
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo_id) or not directory.is_dir():
            return None
        if not directory.resolve().is_relative_to(self.root):
            return None
        if not any(p.is_file() for p in directory.iterdir()):  # a namespace, not a repository
            return None
        with self._lock:
            return self._repos.setdefault((kind, repo_id), Repo(kind, repo_id, directory))

    def _record(self, method: str, path: str, status: int, seconds: float, headers) -> None:
        row = Request(
            method, path, status, seconds, headers.get("Range"), headers.get("User-Agent", "")
        )
        with self._lock:
            self.requests.append(row)

    def count(self, method: str, pattern: str) -> int:
        """How many requests so far used ``method`` on a path matching ``pattern``."""
        with self._lock:
            return sum(
                r.method == method and bool(re.search(pattern, r.path)) for r in self.requests
            )

    def start(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *_exc) -> None:
        self.close()


def _parse_fault(text: str) -> Fault:
    """``PATTERN=>ACTION`` or ``PATTERN=>ACTION*TIMES``."""
    pattern, _, action = text.partition("=>")
    action, _, times = action.partition("*")
    return Fault(pattern, action, int(times or 1))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="directory with models/ and datasets/ below it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--fault", action="append", default=[], metavar="PATTERN=>ACTION[*TIMES]")
    args = parser.parse_args(argv)
    hub = HubServer(
        args.root, args.host, args.port, faults=[_parse_fault(f) for f in args.fault]
    ).start()
    print(f"export HF_ENDPOINT={hub.endpoint}", flush=True)
    shown = 0
    try:
        while True:
            time.sleep(0.2)
            for row in hub.requests[shown:]:
                print(row.status, row.method, row.path, row.range or "", flush=True)
                shown += 1
    except KeyboardInterrupt:
        hub.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

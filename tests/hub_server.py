"""A stand-in for the Hub: the part of its HTTP API that `huggingface_hub` uses to create, upload, list and download."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Repos(dict):
    """Repositories by "models/user/name": every commit's files, and what branches and tags stand for."""

    def commit(self, repo, files, branch="main"):
        one = self[repo]
        sha = hashlib.sha1(f"{repo}{len(one['commits'])}".encode()).hexdigest()
        one["commits"][sha], one["refs"][branch] = dict(files), sha
        return sha

    def add(self, repo, files=()):
        self.setdefault(repo, {"commits": {}, "refs": {}, "tags": {}})
        return self.commit(repo, files)

    def at(self, repo, revision):
        one = self.get(repo)
        if one is None:
            return None, None
        sha = one["refs"].get(revision) or one["tags"].get(revision) or revision
        return sha, one["commits"].get(sha)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Says nothing."""

    def reply(self, body=b"", status=200, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code):
        self.reply({"error": code}, 404, {"X-Error-Code": code})

    def sha_and_files(self, repo, revision):
        sha, files = self.server.repos.at(repo, unquote(revision or "main"))
        if sha is None or files is None:
            self.missing("RepoNotFound" if sha is None else "RevisionNotFound")
        return sha, files

    def do_GET(self):
        self.server.seen.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/refs", path):
            one = self.server.repos[found[1]]

            def refs(kind, named):
                return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": sha} for n, sha in named.items()]

            self.reply({"branches": refs("heads", one["refs"]), "tags": refs("tags", one["tags"]), "converts": []})
        elif found := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            repo, what, revision = found.groups()
            sha, files = self.sha_and_files(repo, revision)
            if files is None:
                return
            if what == "tree":
                self.reply(
                    [{"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                     for n, b in files.items()]
                )  # fmt: skip
            else:
                siblings = [{"rfilename": name} for name in files]
                self.reply({"id": repo.split("/", 1)[1], "sha": sha, "siblings": siblings, "private": False})
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            sha, files = self.sha_and_files(f"{(found[1] or 'models/')}{found[2]}", found[3])
            if files is None:
                return
            content = files.get(unquote(found[4]))
            if content is None:
                self.missing("EntryNotFound")
                return
            etag = hashlib.sha1(content).hexdigest()
            self.reply(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})
        else:
            self.missing("NotFound")

    do_HEAD = do_GET

    def do_POST(self):
        path, body = urlsplit(self.path).path, self.read_body()
        if path == "/api/repos/create":
            given = json.loads(body)
            repo = f"{given.get('type', 'model')}s/{given.get('organization') or 'user'}/{given['name']}"
            url = {"url": f"http://{self.headers['Host']}/{repo.removeprefix('models/')}"}
            if repo in self.server.repos:
                self.reply({"error": "You already created this model repo", **url}, 409)
                return
            self.server.repos.add(repo)
            self.reply(url)
        elif path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif found := re.fullmatch(
            r"/api/((?:models|datasets)/[^/]+/[^/]+)/(preupload|commit|tag|branch)/([^/]+)", path
        ):
            repo, what, revision = found[1], found[2], unquote(found[3])
            if what == "preupload":
                modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for one in json.loads(body)["files"]]  # fmt: skip
                self.reply({"files": modes})
            elif what == "commit":
                files = dict(self.server.repos.at(repo, revision)[1])
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    elif entry["key"] == "deletedFile":
                        del files[entry["value"]["path"]]
                sha = self.server.repos.commit(repo, files, revision)
                self.reply(
                    {
                        "commitUrl": f"http://{self.headers['Host']}/{repo.removeprefix('models/')}/commit/{sha}",
                        "commitOid": sha,
                    }
                )
            elif what == "branch":
                one = self.server.repos[repo]
                one["refs"].setdefault(revision, one["refs"]["main"])
                self.reply({})
            else:
                one, name = self.server.repos[repo], json.loads(body)["tag"]
                one["tags"][name] = one["refs"].get(revision, revision)
                self.reply({})
        else:
            self.missing("NotFound")

    def do_DELETE(self):
        found = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/tag/([^/]+)", self.path)
        del self.server.repos[found[1]]["tags"][found[2]]
        self.reply({})

    def read_body(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextmanager
def serve():
    """Runs the stand-in on a free port of the loopback; yields it, with `url`, `repos` and the requests `seen`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.repos, server.seen = Repos(), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

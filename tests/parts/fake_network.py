"""Two Substra nodes on loopback: they say what the SDK expects, and fail when they are told to."""

import io
import json
import socket
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

from werkzeug.formparser import parse_form_data

TOKEN, PASSWORD = "t0ken-of-lab", "pa55word-of-clinic"
NOW = "2026-11-22T10:00:00Z"
IDS = {"lab": "LabMSP", "clinic": "ClinicMSP"}


class Network:
    """What two nodes share: all assets, and who asked for what."""

    def __init__(self):
        self.calls = []  # (organisation, method, path, fields, names of files)
        self.assets = {"function": {}, "data_manager": {}, "data_sample": {}, "compute_plan": {}}
        self.uploads = {}  # by key: the bytes of each file
        self.tasks = {}
        self.performances = {}
        self.failures = []  # (method, path, what): the next such call fails so
        self.sessions = Counter()
        self.model = b""
        self.log = "Traceback\nValueError: no faces\n"
        self.exports = True

    def fail(self, method, path, what, *, times=1):
        self.failures += [(method, path, what)] * times

    def paths(self, method="POST"):
        return [path for _, asked, path, _, _ in self.calls if asked == method]

    def plan_keys(self):
        return list(self.assets["compute_plan"])


class Node(BaseHTTPRequestHandler):
    """Answers as Substra 1.0's backend does, by what its SDK reads of the answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_DELETE(self):
        self._answer("DELETE")

    def _answer(self, method):
        net, me = self.server.network, self.server.organisation
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        for failure in net.failures:
            if failure[:2] == (method, path):
                net.failures.remove(failure)
                if failure[2] == "cut in the middle":
                    self.rfile.read(100)
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return None
                break
        else:
            failure = None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields, files = self._parse(body)
        net.calls.append((me, method, path, fields, files))
        what = failure[2] if failure else None
        if isinstance(what, int):
            # It repeats what it was sent: nobody should.
            heard = f"{self.headers.get('Authorization')} {body.decode('latin-1')}"
            detail = {"detail": f"no: {heard}"}
            return self._send(what, detail | ({"key": str(uuid.uuid4())} if what == 408 else {}))
        if what == "hang":
            self.server.woken.wait(30)
            self.close_connection = True
            return None
        if isinstance(what, dict):
            return self._send(what["code"], what["body"])
        if what == "not JSON":
            return self._send(200, "<html>")
        if path == "/api-token-auth/":
            if fields != {"username": "me", "password": PASSWORD}:
                return self._send(401, {"detail": f"no such pair {fields}"})
            net.sessions["begun"] += 1
            return self._send(
                200, {"token": "a-session", "expires_at": "2027-01-01T00:00:00+00:00", "id": "7"}
            )
        if self.headers["Authorization"] not in {f"Token {TOKEN}", "Token a-session"}:
            return self._send(401, {"detail": "Invalid token."})
        answer = self._route(net, me, method, path, query, fields, files)
        if what == "answer lost":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        return self._send(*answer)

    def _parse(self, body):
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/json"):
            return json.loads(body), {}
        environ = {
            "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": kind,
            "REQUEST_METHOD": "POST",
        }  # fmt: skip
        _, form, files = parse_form_data(environ)
        fields = json.loads(form["json"]) if "json" in form else form.to_dict()
        found = {}
        for name, file in files.items():
            with file.stream as stream:
                found[name] = stream.read()
        return fields, found

    def _send(self, code, body):
        data = body if isinstance(body, bytes) else (
            body if isinstance(body, str) else json.dumps(body)
        ).encode()  # fmt: skip
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _route(self, net, me, method, path, query, fields, files):
        parts = path.strip("/").split("/")
        match method, parts:
            case "DELETE", ["active-api-tokens"]:
                net.sessions["ended"] += query["id"] == ["7"]
                return 204, b""
            case "GET", ["info"]:
                return 200, {
                    "host": "http://127.0.0.1", "organization_id": IDS[me], "channel": "c",
                    "organization_name": me, "config": {"model_export_enabled": net.exports},
                    "version": "1.0.0", "orchestrator_version": "1.0.0",
                }  # fmt: skip
            case "GET", ["organization"]:
                return 200, [
                    {"id": each, "is_current": each == IDS[me], "creation_date": NOW}
                    for each in IDS.values()
                ]
            case "POST", [("function" | "data_manager" | "data_sample") as kind]:
                key = str(uuid.uuid4())
                net.assets[kind][key] = fields | {"owner": IDS[me]}
                net.uploads[key] = files
                return 201, [{"key": key}] if kind == "data_sample" else {"key": key}
            case "POST", ["compute_plan"]:
                if fields["key"] in net.assets["compute_plan"]:
                    return 409, {"key": fields["key"]}
                net.assets["compute_plan"][fields["key"]] = fields | {"owner": IDS[me]}
                return 201, plan_row(net, fields["key"])
            case "POST", ["task", "bulk_create"]:
                if {task["key"] for task in fields["tasks"]} & set(net.tasks):
                    return 409, [{"key": task["key"]} for task in fields["tasks"]]
                for task in fields["tasks"]:
                    net.tasks[task["key"]] = task | {"status": "STATUS_WAITING_FOR_PARENT_TASKS"}
                return 201, [{"key": task["key"]} for task in fields["tasks"]]
            case "GET", [("function" | "data_manager") as kind]:
                rows = [
                    asset_row(net, kind, key) for key, each in net.assets[kind].items()
                    if each["owner"] in query["owner"]
                ]  # fmt: skip
                return 200, {"next": None, "results": rows}
            case "GET", ["data_manager", key]:
                return 200, asset_row(net, "data_manager", key)
            case "GET", ["compute_plan", key] if key in net.assets["compute_plan"]:
                return 200, plan_row(net, key)
            case "GET", ["compute_plan", key, "perf"]:
                rows = [
                    {
                        "compute_task": {"key": k, "worker": net.tasks[k]["worker"],
                                         "rank": 1, "round_idx": 1},
                        "identifier": "performance", "perf": value,
                    }
                    for k, value in net.performances.items()
                ]  # fmt: skip
                return 200, {"results": rows}
            case "GET", ["task"]:
                rows = [task_row(net, key) for key in net.tasks]
                half = len(rows) // 2
                if "page" in query:
                    return 200, {"next": None, "results": rows[half:]}
                more = f"http://{self.headers['Host']}/task/?page=2"
                return 200, {"next": more, "results": rows[:half]}
            case "GET", ["task", _, "logs"]:
                return 200, net.log
            case "GET", ["task", key, "output_assets"]:
                model = {
                    "key": str(uuid.uuid4()), "compute_task_key": key, "owner": IDS["lab"],
                    "permissions": {"process": {"public": False, "authorized_ids": []}},
                    "creation_date": NOW,
                }  # fmt: skip
                row = {"kind": "ASSET_MODEL", "identifier": "model", "asset": model}
                return 200, {"next": None, "results": [row]}
            case "GET", ["model", _, "file"]:
                return 200, net.model
        return 404, {"detail": "Not found."}


def plan_row(net, key):
    states = Counter(task["status"] for task in net.tasks.values())
    status = (
        "PLAN_STATUS_FAILED" if states["STATUS_FAILED"]
        else "PLAN_STATUS_DONE" if net.tasks and set(states) == {"STATUS_DONE"}
        else "PLAN_STATUS_DOING"
    )  # fmt: skip
    return {
        "key": key, "tag": "unmask", "name": net.assets["compute_plan"][key]["name"],
        "owner": IDS["lab"], "metadata": {}, "status": status, "creation_date": NOW,
        "done_count": states["STATUS_DONE"],
    }  # fmt: skip


def asset_row(net, kind, key):
    fields, file = net.assets[kind][key], {"checksum": "0", "storage_address": "http://x/y"}
    row = {
        "key": key, "name": fields["name"], "owner": fields["owner"], "creation_date": NOW,
        "metadata": fields["metadata"], "description": file,
        "permissions": {"process": fields["permissions"]},
    }  # fmt: skip
    if kind == "function":
        return row | {"inputs": {}, "outputs": {}, "status": "FUNCTION_STATUS_READY",
                      "archive": file}  # fmt: skip
    samples = net.assets["data_sample"].items()
    return row | {
        "opener": file, "logs_permission": fields["logs_permission"],
        "data_sample_keys": [k for k, s in samples if key in s["data_manager_keys"]],
    }  # fmt: skip


def task_row(net, key):
    task = net.tasks[key]
    return {
        "key": key, "function": asset_row(net, "function", task["function_key"]), "tag": "",
        "owner": IDS["lab"], "compute_plan_key": task["compute_plan_key"], "metadata": {},
        "status": task["status"], "worker": task["worker"], "creation_date": NOW, "inputs": [],
        "outputs": {}, "error_type": "EXECUTION_ERROR",
    }  # fmt: skip


@contextmanager
def running(net):
    """Yield the addresses of the two nodes while they run."""
    with ExitStack() as stack:
        found = {}
        for name in IDS:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Node))
            server.daemon_threads, server.woken = True, Event()
            server.network, server.organisation = net, name
            Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
            stack.callback(server.woken.set)
            found[name] = f"http://127.0.0.1:{server.server_port}"
        yield found

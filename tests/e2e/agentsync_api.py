"""AgentSync's API as its documentation says, on loopback, for the scripts that call it.

A token is valid for `lifetime` seconds, and each request for one is counted. A page has `embedded` or `_embedded`
records and a link to the next one, or counts itself. Over the limit it is 429 with Retry-After."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class JsonServer:
    """An HTTP server on loopback. answer(method, path, headers, body) -> (status, headers, JSON or bytes)."""

    def __init__(self):
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, headers, reply = api.answer(self.command, self.path, self.headers, body)
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in ({"content-length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Api(JsonServer):
    def __init__(self):
        super().__init__()
        self.lifetime = 3600
        self.tokens = {}            # token -> when it expires
        self.collections = {}       # name -> its pages, lists of records
        self.subscriptions = []     # NPNs
        self.paging = "links"       # of the subscriptions: links, counted, total, none
        self.repeats = False        # it does not look at the number of a page: each is the first
        self.embedded = "embedded"
        self.links = "links"
        self.faults = []            # answers for the next calls but those for tokens: (status, headers, JSON), or None
        self.headers = {}
        self.requests = []          # (path, query) of each call
        self.token_requests = 0
        self.token_answer = None

    def answer(self, method, path, headers, body):
        url = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/oauth2/token":
            return self.token(method, body)
        self.requests.append((url.path, query))
        if self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "), 0) < time.time():
            return 401, {}, {"error": "unauthorized"}
        if self.faults and (fault := self.faults.pop(0)):
            return fault
        assert method == "GET"
        if url.path == "/v1/accounts/subscriptions":
            number = 0 if self.repeats else int(query.get("page", 0))
            return 200, self.headers, self.page_of_subscriptions(number, int(query["size"]))
        if self.repeats:
            query.pop("continuationToken", None)
        return self.page(url.path.removeprefix("/v2/"), query)

    def token(self, method, body):
        self.token_requests += 1
        if method != "POST" or parse_qs(body) != {"grant_type": ["client_credentials"], "client_id": ["me"],
                                                  "client_secret": ["s&cret"]}:
            return 401, {}, {"error": "invalid_client"}
        token = f"t0ken.{self.token_requests}"
        self.tokens[token] = time.time() + self.lifetime
        if self.token_answer is not None:
            return 200, {}, self.token_answer
        return 200, {}, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}

    def page(self, name, query):
        pages = self.collections.get(name)
        if pages is None or query["updatedSince"] != "2025-07-24":
            return 404, {}, {"error": "not_found"}
        number = int(query.get("continuationToken", 1))
        if number > len(pages):
            return 400, {}, {"error": "continuationToken"}
        following = number + 1 if number < len(pages) else 0
        link = f"{self.url}/v2/{name}?updatedSince=2025-07-24&continuationToken={following}"
        reply = {self.links: {"next": {"href": link}}}
        return 200, self.headers, reply | ({self.embedded: {name: pages[number - 1]}} if pages[number - 1] else {})

    def page_of_subscriptions(self, number, size):
        last = max(0, len(self.subscriptions) - 1) // size
        some = self.subscriptions[number * size:(number + 1) * size]
        link = f"{self.url}/v1/accounts/subscriptions?size={size}&page={number + 1}"
        reply = {self.embedded: {"subscriptions": [{"npn": npn} for npn in some]}} if some else {}
        if self.paging == "links":
            return reply | {self.links: {"next": {"href": link}} if number < last else {}}
        if self.paging == "counted":
            return reply | {"page": {"number": number, "totalPages": last + 1, "size": size}}
        if self.paging == "total":
            return {"content": [], "npns": [], self.embedded: {"npns": some}, "number": number, "totalPages": last + 1}
        return some

"""Runs `python -m train digits` as on a machine of Google's cloud; a stand-in for the metadata service answers NOTICE.

spot.py FLAG...   NOTICE: TRUE or FALSE
"""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from train import notices
from train.__main__ import main


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path.endswith("/instance/preempted") and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(os.environ["NOTICE"].encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
notices.sources.__defaults__ = (f"127.0.0.1:{server.server_port}",)
sys.exit(main(["digits", *sys.argv[1:]]))

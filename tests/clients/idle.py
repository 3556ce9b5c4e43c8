"""Five connections of httpx over HTTP/2, each idle after one request."""

import os
import sys

import httpx

clients = [httpx.Client(http2=True, verify=os.environ["BUS_CA"]) for _ in range(5)]
for client in clients:
    answer = client.get(os.environ["BUS_URL"] + "/health")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2"), answer
print("idle", len(clients), flush=True)
sys.stdin.read()

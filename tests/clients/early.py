"""httpx over HTTP/1.1 and HTTP/2: large bodies that are refused before they are read."""

import os

import httpx

CASES = [
    ("POST", "/topics/widgets", None, 401),
    ("POST", "/no/such/place", ("demo", ""), 404),
    ("PUT", "/topics", ("demo", ""), 405),
    ("POST", "/topics/widgets", ("demo", ""), 413),
]

answers = 0
for http2 in (False, True):
    with httpx.Client(http2=http2, verify=os.environ["BUS_CA"], timeout=30) as client:
        for size in (1_200_000, 7_000_000):
            for method, path, auth, expected in CASES:
                for _ in range(3):
                    answer = client.request(
                        method, os.environ["BUS_URL"] + path, content=b"x" * size, auth=auth
                    )
                    assert answer.status_code == expected and answer.text, (answer, answer.text)
                    answers += 1
print("answers", answers)

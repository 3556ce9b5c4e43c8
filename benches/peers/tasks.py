"""Celery and Dramatiq on Redis: `tasks.py deliver|publish celery|dramatiq SETUP`.

A publisher reads a message a line, and writes its number once the broker has it, or `-` and the number.
"""
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import requests

AT_ONCE = 32
# Python publishes no faster with more: they take turns.
PUBLISHING_AT_ONCE = 8
# How long a message of a worker that was killed stays away, in seconds; by default it is an hour, or a minute.
GIVEN_UP_AFTER = 5

role, kind, setup = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
url = f"redis://127.0.0.1:{setup['port']}/0"
local = threading.local()


def post(message):
    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.verify = setup["ca"]
        local.session.trust_env = False
    local.session.post(setup["callback"], json=message, timeout=10).raise_for_status()


def celery():
    from celery import Celery

    app = Celery("peers", broker=url)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": GIVEN_UP_AFTER},
    )

    @app.task(name="deliver", autoretry_for=(requests.RequestException,), default_retry_delay=0.2, max_retries=1000)
    def deliver(message):
        post(message)

    def work():
        app.worker_main(["worker", "-P", "threads", "-c", str(AT_ONCE), "-l", "error", "--without-gossip", "--without-mingle"])

    return (lambda message: deliver.delay(message)), work


def dramatiq():
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    # Whether workers are gone is looked at by chance: in a tenth of the commands here, by default in a thousandth.
    broker = RedisBroker(url=url, heartbeat_timeout=GIVEN_UP_AFTER * 1000, maintenance_chance=100_000)
    dramatiq.set_broker(broker)

    @dramatiq.actor(max_retries=1000, min_backoff=200, max_backoff=200)
    def deliver(message):
        post(message)

    def work():
        dramatiq.Worker(broker, worker_threads=AT_ONCE).start()
        threading.Event().wait()

    return (lambda message: deliver.send(message)), work


def publish_lines(publish):
    writing = threading.Lock()

    def one(line):
        message = json.loads(line)
        try:
            publish(message)
            told = f"{message['n']}"
        except Exception:  # whatever it is, the message was not taken
            told = f"- {message['n']}"
        with writing:
            print(told, flush=True)

    with ThreadPoolExecutor(PUBLISHING_AT_ONCE) as pool:
        for line in sys.stdin:
            pool.submit(one, line)


publish, work = {"celery": celery, "dramatiq": dramatiq}[kind]()
if role == "deliver":
    work()
else:
    publish_lines(publish)

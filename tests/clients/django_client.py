"""Postoffice's Django client, as it is installed: what it sends, and what it keeps that it could not send.

python django_client.py <url of the bus> <port of its own> <database> <command>

  configure                topics and publishers of the settings
  publish <n> [<topic>]    a message, then two at once, then one for a minute later; then as errors
  errors                   prints what could not be sent, as JSON
  serve                    serves what could not be sent, until it is killed
"""

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

url, port, database, command = sys.argv[1:5]
arguments = sys.argv[5:]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    INSTALLED_APPS=["postoffice_django"],
    MIDDLEWARE=[],
    ROOT_URLCONF="postoffice_django.urls",
    SECRET_KEY="for a test",
    USE_TZ=True,
    POSTOFFICE={
        "URL": url,
        "TOPICS": ["some_topic"],
        "RECOVERY_ENABLED": True,
        "ORIGIN_HOST": f"http://127.0.0.1:{port}",
        "CONSUMERS": [
            {"topic": "some_topic", "target": os.environ.get("TARGET", "http://a.example"), "type": "http",
             "retry": 1, "timeout": 10},
            {"topic": "some_topic", "target": "another_topic", "type": "pubsub"},
        ],
    },
)
django.setup()
call_command("migrate", verbosity=0)

from postoffice_django.models import PublishingError  # noqa: E402
from postoffice_django.publishing import bulk_publish, publish, scheduled_publish  # noqa: E402

if command == "configure":
    call_command("configure_postoffice")
elif command == "publish":
    number, topic = int(arguments[0]), (arguments[1:] or ["some_topic"])[0]
    publish(topic=topic, payload={"n": number, "text": "Grüße"}, kind="one", count=1)
    bulk_publish(topic=topic, payload=[{"n": number + 1}, {"n": number + 2}], kind="bulk")
    scheduled_publish(topic=topic, payload={"n": number + 3}, schedule_in=1)

if command in ("publish", "errors"):
    print(json.dumps(list(PublishingError.objects.order_by("id").values("topic", "payload", "bulk", "error"))))
elif command == "serve":
    call_command("runserver", f"127.0.0.1:{port}", "--noreload")

"""Reads a batch of CloudEvents, standard input, with the official SDK. Prints a line for each event."""

import json
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

for event in json.load(sys.stdin):
    event = JSONFormat().read(CloudEvent, json.dumps(event))
    parts = [event.get_id(), event.get_source(), event.get_type(), event.get_subject(), event.get_data()]
    print(json.dumps([*parts, event.get_time().timestamp(), event.get_extension("traceparent")]))

"""Verifies a signed delivery as a receiver does, with the official library of Standard Webhooks.

Standard input is {"secret", "headers", "body"}. Prints "verified", or why not.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

delivery = json.load(sys.stdin)
try:
    Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
    print("verified")
except WebhookVerificationError as error:
    print(f"refused: {error}")

"""What the shop does about its calls. Celery's workers run it, so it may take its time."""

from __future__ import annotations

import logging

from retell_flask import CallEvent, RetellBlueprint, call_analyzed, call_ended

retell = RetellBlueprint()  # reads RETELL_API_KEY and its like from the environment
logger = logging.getLogger(__name__)


@call_ended.connect_via(retell)
def bill(sender, event: CallEvent, **extra):
    call = event.call
    logger.info("%s took %s: %s", call.call_id, call.duration, call.disconnection_reason)


@call_analyzed.connect_via(retell)
def follow_up(sender, event: CallEvent, **extra):
    analysis = event.call.analysis
    if analysis:
        logger.info("%s left the caller %s", event.call.call_id, analysis.sentiment)

"""The request itself runs the receivers, before it is answered."""

from __future__ import annotations

from ..delivery import Deliverer, Verdict, deliver_directly
from ..inbox.entry import Receipt
from ..invocation import Invoker
from . import Answer


class Inline:
    """What is not done of the entry is run now; Retell's next attempt runs the rest."""

    def __init__(self, deliverer: Deliverer) -> None:
        self._deliverer = deliverer

    def start(self) -> None:
        """Nothing to begin."""

    def dispatch(self, receipt: Receipt) -> Answer:
        verdict = self._deliverer.deliver_entry(receipt.entry_id or 0)
        if verdict is Verdict.FINISHED:
            return Answer.DUPLICATE if receipt.duplicate else Answer.RECEIVED
        return Answer.FAILED if verdict is Verdict.FAILED else Answer.BUSY


class Direct:
    """Without an inbox: every receiver runs on every delivery."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    def start(self) -> None:
        """Nothing to begin."""

    def dispatch(self, receipt: Receipt) -> Answer:
        outcomes = deliver_directly(self._invoker, receipt.event)
        failed = any(outcome.failed for outcome in outcomes)
        del outcomes  # their errors' tracebacks hold this frame
        return Answer.FAILED if failed else Answer.RECEIVED

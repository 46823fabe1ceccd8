"""Recipients who are the death of the process that sends to them, once each, at the place that their name tells.

`die-offered@`: the server knows the address, nothing is committed · `die-sending@`: `sending` is committed, nothing
has left · `die-sent@`: the server has answered and nobody has written it down.
"""

import os
import signal
from pathlib import Path
from typing import Any

from flaskapp.mail.smtp import Smtp


def arm(proofs: Path) -> None:
    """MAIL_DIES: the folder where each death leaves a file."""
    offer, send = Smtp.offer, Smtp.send

    def deadly_offer(self: Smtp, letter: Any) -> None:
        offer(self, letter)
        _die("die-offered", letter, proofs)

    def deadly_send(self: Smtp, letter: Any) -> Any:
        _die("die-sending", letter, proofs)
        reply = send(self, letter)
        _die("die-sent", letter, proofs)
        return reply

    Smtp.offer, Smtp.send = deadly_offer, deadly_send  # type: ignore[method-assign]


def _die(place: str, letter: Any, proofs: Path) -> None:
    if letter.recipient.startswith(place):
        try:
            os.close(os.open(proofs / letter.recipient, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

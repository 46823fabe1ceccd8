"""Queues as folders of files.

Promises: a message is published whole, claimed by one consumer, and comes back if that consumer dies.
Does not know Kombu: a message is bytes, and a claim is the path of the claimed file.
"""

import heapq
import os
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from itertools import count
from urllib.parse import quote, unquote

from flaskapp.broker.folder.owners import is_alive, me

ROOMS = ("writing", "ready", "claimed")
REDELIVERED = "~redelivered"
LONGEST_NAME = 200  # file systems stop at 255 bytes

# Listing a long queue costs milliseconds, so a consumer lists once and then works through the first names.
# A more urgent message may have to wait until the listing is this old.
LISTING_SIZE = 64
LISTING_SECONDS = 0.2

# A folder's time of change moves in steps of some milliseconds: a fresh one may hide a second change.
CLOCK_STEP = 100_000_000

_sequence = count()


class Queues:
    def __init__(self, root: str, fsync: bool = False) -> None:
        self.root = root
        self.folder = f"{root}/queues"
        # Six times slower, so off unless asked for: what a power cut takes from here is sent again from SQL.
        self.fsync = fsync
        self._listings: dict[str, tuple[float, list[str]]] = {}
        self._found_empty: dict[str, int | None] = {}

    def create(self, queue: str, mortal: bool = False) -> None:
        """A mortal queue disappears when every process that has declared it is gone."""
        place = self._place(queue)
        for room in ROOMS:
            os.makedirs(f"{place}/{room}", exist_ok=True)
        if mortal:
            os.makedirs(f"{place}/declarers", exist_ok=True)
            with open(f"{place}/declarers/{me()}", "w"):
                pass

    def exists(self, queue: str) -> bool:
        return os.path.isdir(f"{self._place(queue)}/ready")

    def put(self, queue: str, message: bytes, urgency: int) -> None:
        """Messages of urgency 0 come first; those of equal urgency come by age."""
        name = f"{urgency}-{time.time_ns():020d}-{next(_sequence):06d}-{me()}"
        try:
            self._write(queue, name, message)
        except FileNotFoundError:  # nobody has declared this queue, or the whole folder was removed
            self.create(queue)
            self._write(queue, name, message)

    def is_quiet(self, queue: str) -> bool:
        """True when the queue was empty and has not changed since. Costs one stat: what idle consumers do."""
        found_empty = self._found_empty.get(queue)
        return found_empty is not None and found_empty == _time_of_change(f"{self._place(queue)}/ready")

    def claim(self, queue: str) -> str | None:
        """Take the next message away from all others; None when there is none."""
        place = self._place(queue)
        while name := self._next_name(queue):
            claim = f"{place}/claimed/{me()}~{name}"
            try:
                os.rename(f"{place}/ready/{name}", claim)
            except FileNotFoundError:  # another consumer was first
                continue
            return claim
        return None

    def read(self, claim: str) -> bytes:
        with open(claim, "rb") as file:
            return file.read()

    def settle(self, claim: str) -> None:
        with suppress(FileNotFoundError):  # settled before, or its queue was deleted
            os.unlink(claim)

    def give_back(self, claim: str) -> None:
        """Put a message back to its old place in the line, if it is still this process that holds it."""
        if _owner(claim) == me():  # a forked child inherits its parent's list of claims, but not the claims
            self._return_to_line(claim)
            self._listings.clear()  # it may belong before the names already listed

    def set_aside(self, claim: str) -> str:
        """Keep what cannot be read out of everybody's way; says where."""
        os.makedirs(f"{self.root}/bad", exist_ok=True)
        aside = f"{self.root}/bad/{os.path.basename(claim)}"
        os.rename(claim, aside)
        return aside

    def ready_count(self, queue: str) -> int:
        return len(names_in(f"{self._place(queue)}/ready"))

    def claimed_count(self, queue: str) -> int:
        return len(names_in(f"{self._place(queue)}/claimed"))

    def purge(self, queue: str) -> int:
        place = self._place(queue)
        names = names_in(f"{place}/ready")
        for name in names:
            self.settle(f"{place}/ready/{name}")
        return len(names)

    def delete(self, queue: str) -> None:
        # What is written or claimed at this moment may keep the folder alive: then it is an empty queue.
        shutil.rmtree(self._place(queue), ignore_errors=True)

    def return_claims_of_the_dead(self) -> None:
        for quoted in names_in(self.folder):
            for name in names_in(f"{self.folder}/{quoted}/claimed"):
                if not is_alive(_owner(name)):
                    self._return_to_line(f"{self.folder}/{quoted}/claimed/{name}")
            for name in names_in(f"{self.folder}/{quoted}/writing"):
                if not is_alive(_owner(name)):
                    self.settle(f"{self.folder}/{quoted}/writing/{name}")

    def orphans(self) -> list[str]:
        """The mortal queues whose declarers are all gone."""
        return [unquote(quoted) for quoted in names_in(self.folder) if self._is_orphan(quoted)]

    def _place(self, queue: str) -> str:
        return f"{self.folder}/{file_name(queue)}"

    def _is_orphan(self, quoted: str) -> bool:
        declarers = names_in(f"{self.folder}/{quoted}/declarers")
        return bool(declarers) and not any(map(is_alive, declarers))

    def _write(self, queue: str, name: str, message: bytes) -> None:
        place = self._place(queue)
        draft = f"{place}/writing/{me()}~{name}"
        try:
            with open(draft, "xb") as file:
                file.write(message)
                if self.fsync:
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(draft, f"{place}/ready/{name}")
        except OSError:
            self.settle(draft)
            raise

    def _next_name(self, queue: str) -> str | None:
        listed_at, names = self._listings.get(queue, (0.0, []))
        if not names or time.monotonic() - listed_at > LISTING_SECONDS:
            names = self._first_names(queue)
            self._listings[queue] = time.monotonic(), names
        return names.pop() if names else None

    def _first_names(self, queue: str) -> list[str]:
        """The next names, the very next one last."""
        place = self._place(queue)
        changed_at = _time_of_change(f"{place}/ready")
        names = heapq.nsmallest(LISTING_SIZE, names_in(f"{place}/ready"))[::-1]
        if names:
            os.makedirs(f"{place}/claimed", exist_ok=True)
        is_sure = not names and time.time_ns() - changed_at > CLOCK_STEP
        self._found_empty[queue] = changed_at if is_sure else None
        return names

    def _return_to_line(self, claim: str) -> None:
        room, held = os.path.split(claim)
        name = held.partition("~")[2].removesuffix(REDELIVERED) + REDELIVERED
        with suppress(FileNotFoundError):  # settled, or returned by another, in this very moment
            os.rename(claim, f"{os.path.dirname(room)}/ready/{name}")


@lru_cache(maxsize=1024)
def file_name(name: str) -> str:
    """Any name of a queue or an exchange as a safe name of a file."""
    quoted = quote(name, safe="@").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if not 0 < len(quoted) <= LONGEST_NAME:
        raise ValueError(f"{name!r} cannot name a queue or an exchange of a folder: take 1 to {LONGEST_NAME} letters.")
    return quoted


def was_delivered_before(claim: str) -> bool:
    return claim.endswith(REDELIVERED)


def _owner(claim: str) -> str:
    return os.path.basename(claim).partition("~")[0]


def _time_of_change(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []

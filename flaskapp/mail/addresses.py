"""Addresses from outside: one person each, nothing in them that could become a second header or a second command."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.headerregistry import Address
from email.policy import SMTP
from typing import Any

from flaskapp.errors import BadArguments

MOST_RECIPIENTS = 50_000
_LONGEST = 254
#: How many characters of a list may need the whole grammar, which takes some ten microseconds for each.
_MOST_ODD = 200_000
#: The characters that RFC 5322 (3.2.3) lets stand in the first half of an address as they are.
_ATEXT = r"[\w!#$%&'*+/=?^`{|}~-]+"
_PLAIN = rf"(?a:({_ATEXT}(?:\.{_ATEXT})*)@([\w-]+(?:\.[\w-]+)+))"
#: Also with a name before it: in quotes, or words as people write them, with dots that the grammar would not have.
_NAME = r"""(?:"([^"\\]*)"|([\w.'&-]+(?: [\w.'&-]+)*)) ?"""
_COMMON = re.compile(f"{_PLAIN}|(?:{_NAME})?<{_PLAIN}>")


@dataclass(frozen=True)
class Mailbox:
    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def mailbox(text: object, where: str = "to") -> Mailbox:
    """`ada@example.org` or `Ada <ada@example.org>`; raises BadArguments with the sentence for anything else."""
    if not isinstance(text, str) or not text.strip():
        raise BadArguments(f"{where} holds an empty address. Write e.g. ada@example.org.")
    shown = repr(text[:80])
    if not text.isprintable():
        raise BadArguments(f"{where}: {shown} holds a line break or another control character. Write it in one line.")
    if len(text) > 1000:
        raise BadArguments(f"{where}: {shown} is too long for an address.")
    found = _parsed(text.strip())
    # A name may come in encoded words, with anything in them.
    if found is None or not found.display_name.isprintable():
        raise BadArguments(f"{where}: {shown} is not one address. Write e.g. ada@example.org or Ada <ada@example.org>.")
    local, domain = found.username, _ascii_domain(found.domain)
    address = f"{local}@{domain}"
    if not domain or len(address) > _LONGEST or not _is_plain(local):
        raise BadArguments(f"{where}: {shown} is not an address that mail servers take. Write e.g. ada@example.org.")
    return Mailbox(address, found.display_name[:255])


def mailboxes(texts: Any, where: str = "to") -> list[Mailbox]:
    """Each address once, in their order."""
    if not isinstance(texts, Iterable) or isinstance(texts, str | bytes | dict):
        raise BadArguments(f'{where} must be a list of addresses, e.g. ["ada@example.org"].')
    found: dict[str, Mailbox] = {}
    odd = 0
    for number, text in enumerate(texts):
        if number >= MOST_RECIPIENTS:
            raise BadArguments(f"{where} has more than {MOST_RECIPIENTS:,} addresses. Split the message.")
        if isinstance(text, str) and _at_a_glance(text.strip()) is None:
            odd += len(text)
        if odd > _MOST_ODD:
            raise BadArguments(
                f"{where} has too many addresses that take long to read. Split the message, or write them like "
                '"Lovelace, Ada" <ada@example.org>.'
            )
        # The sentence quotes it; only of what is nothing the place is all there is to say.
        one = mailbox(text, where if isinstance(text, str) and text.strip() else f"{where}[{number}]")
        found.setdefault(one.address.lower(), one)
    if not found:
        raise BadArguments(f"{where} is empty. Name at least one address, e.g. ada@example.org.")
    return list(found.values())


def as_listed(text: str) -> str:
    """An address as the list of who wants no mail has it, however it is written."""
    try:
        return mailbox(text).address.lower()
    except BadArguments:
        return text.lower()


def _parsed(text: str) -> Address | None:
    if common := _at_a_glance(text):
        return common
    try:
        header = SMTP.header_factory("to", text)
        (found,) = header.addresses
        one_group = len(header.groups) == 1 and header.groups[0].display_name is None
    except Exception:  # noqa: BLE001 -- the parser of the standard library trips over odd texts in many ways
        return None
    if header.defects or not one_group or not found.username or not found.domain:
        return None
    return found  # type: ignore[no-any-return]


def _at_a_glance(text: str) -> Address | None:
    """As nearly all are written; the whole grammar takes a hundred times as long."""
    found = _COMMON.fullmatch(text)
    if found is None or "=?" in text:
        return None
    plain, plain_domain, quoted, words, named, named_domain = found.groups()
    return Address(quoted or words or "", plain or named, plain_domain or named_domain)


def _is_plain(local: str) -> bool:
    # What would need quotes is legal and never meant.
    return 0 < len(local) <= 64 and local.isascii() and not set(local) & set(' ()<>[]:;@\\,"') and ".." not in local


def _ascii_domain(domain: str) -> str:
    """`bücher.example` as mail servers know it; empty if it is no domain."""
    # Python's rules are those of 2003: by them straße.example is strasse.example, which may be somebody else's.
    written = [
        f"xn--{label.lower().encode('punycode').decode()}" if set(label) & set("ßẞς") else label
        for label in domain.split(".")
    ]
    try:
        encoded = ".".join(written).encode("idna").decode().lower()
    except UnicodeError:
        return ""
    labels = encoded.split(".")
    fine = all(0 < len(label) <= 63 and label.replace("-", "a").replace("_", "a").isalnum() for label in labels)
    return encoded if fine and len(encoded) <= 253 else ""

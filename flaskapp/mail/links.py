"""The signed link by which the reader of a mail leaves the list."""

from itsdangerous import BadSignature, URLSafeSerializer

from flaskapp.config import Settings


def link(settings: Settings, message_id: str, number: int) -> str:
    return f"{settings.public_url}/unsubscribe/{_serializer(settings).dumps([message_id, number])}"


def read(settings: Settings, token: str) -> tuple[str, int]:
    """Whose mail it was in; raises ValueError for a link that we did not make."""
    try:
        message_id, number = _serializer(settings).loads(token)
    except (BadSignature, TypeError) as problem:
        raise ValueError("not one of ours") from problem
    return str(message_id), int(number)


def _serializer(settings: Settings) -> URLSafeSerializer:
    return URLSafeSerializer(settings.secret_key, salt="mail.unsubscribe")

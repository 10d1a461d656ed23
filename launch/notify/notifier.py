"""Messages to mail, DingTalk, Lark, WeCom, Slack and others, by apprise; an address is a secret and never shown."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prep.errors import ConfigError, StackError
from prep.terminal import neutralise

_MOST_CHARACTERS = 4_000
# The longest that a message may take, all addresses together.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Notifier:
    """Who is told: apprise's own object, and the kinds of its addresses, which may be shown."""

    service: Any
    kinds: tuple[str, ...]

    def tell(self, title: str, body: str) -> str | None:
        """Send a message to all addresses; return what went wrong, None when all took it. Never raises."""
        text = neutralise(body)
        if len(text) > _MOST_CHARACTERS:
            text = text[:_MOST_CHARACTERS] + "\n…"
        kinds = ", ".join(self.kinds)
        ended: list[str | None] = []

        def send() -> None:
            try:
                is_sent = self.service.notify(title=neutralise(title), body=text)
            except Exception as error:  # noqa: BLE001 - each service raises its own; a training must not end by it
                ended.append(f"{kinds} could not be told: {type(error).__name__}")
            else:
                fault = f"{kinds} did not take the message; its network or key may be wrong"
                ended.append(None if is_sent else fault)

        # A service that answers a letter at a time would hold up the run; nobody waits for the thread at the end.
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        sender.join(PATIENCE_S)
        return ended[0] if ended else f"{kinds} did not answer within {PATIENCE_S:.0f} seconds"


def open_notifier(addresses: Sequence[str]) -> Notifier | None:
    """Return who is to be told, None without addresses.

    Raises: ConfigError for an address that apprise does not know, by its place alone: it holds keys; StackError
    without apprise.
    """
    if not addresses:
        return None
    try:
        import apprise
    except ImportError:
        raise StackError(
            "--notify needs apprise, which is not installed here",
            hint="pip install 'llamafactory-companion[notify]'",
        ) from None
    import logging

    # It logs addresses; what went wrong is told by us.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    service = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not service.add(address):
            raise ConfigError(
                f"address {number} of --notify is none that apprise knows",
                hint="mailtos://USER:PASSWORD@HOST, dingtalk://TOKEN, feishu://TOKEN, wecombot://KEY, json://HOST",
            )
    return Notifier(service, tuple(str(server.service_name) for server in service))

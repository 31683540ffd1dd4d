"""Where a binding can lead: a queue or another exchange (RabbitMQ docs, Exchange to Exchange Bindings)."""

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Destination:
    """What routing needs to know of a queue or an exchange: its name and which of the two it is. Equal only to itself."""

    def __init__(self, name: str, is_exchange: bool) -> None:
        self.name = name
        self.is_exchange = is_exchange
        self.deleted = False
        """It is gone for everybody; bindings to it may still be there for a while."""

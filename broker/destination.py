"""Where a binding can lead: a queue or another exchange (RabbitMQ docs, Exchange to Exchange Bindings); and what takes
messages."""

from mypy_extensions import mypyc_attr

from broker.message import Message
from broker.promises import PromiseSource
from broker.stats import QueueFigures, Sampler


@mypyc_attr(allow_interpreted_subclasses=True)
class Destination:
    """What routing needs to know of a queue or an exchange: its name and which of the two it is. Equal only to
    itself."""

    def __init__(self, name: str, is_exchange: bool) -> None:
        self.name = name
        self.is_exchange = is_exchange
        self.deleted = False
        """It is gone for everybody; bindings to it may still be there for a while."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MessageTarget(Destination):
    """What a route leads to: it takes messages, and nothing else need be known of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, False)
        self.figures: QueueFigures | None = None
        """What was counted; None while nothing has happened."""
        self.promises: PromiseSource | None = None
        """Who keeps the messages for which it answers ``PENDING``; the same for all of its life."""

    def stirred(self, sampler: Sampler) -> QueueFigures:
        """Its figures, now that something happens."""
        figures = self.figures
        if figures is None:
            figures = self.new_figures(sampler)
            self.figures = figures
        figures.stir()
        return figures

    def new_figures(self, sampler: Sampler) -> QueueFigures:
        """None of them counted yet."""
        return QueueFigures(sampler)

    def enqueue(self, message: Message) -> int:
        """Take a message: ``ACCEPTED``, ``REJECTED``, or ``PENDING`` (then ``promises`` is to be asked)."""
        raise NotImplementedError

"""Transactions: what a channel publishes and acknowledges takes effect at tx_commit, or never, at tx_rollback.

Publisher confirms are the quicker way to know that messages are safe; a transaction is for what belongs together, such
as to acknowledge a message and publish what was made of it.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    orders = channel.queue_declare("", exclusive=True).method.queue
    invoices = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", orders, b"two chairs")

    observer = connection.channel()

    def show(when: str) -> None:
        """Prints how many messages wait."""
        waiting = [observer.queue_declare(queue, passive=True).method.message_count for queue in (orders, invoices)]
        print(f"{when}: orders {waiting[0]}, invoices {waiting[1]}")

    channel.tx_select()
    method, _, body = channel.basic_get(orders)
    channel.basic_publish("", invoices, b"invoice for " + body)
    channel.basic_ack(method.delivery_tag)
    show("before the commit")
    channel.tx_commit()
    show("after the commit")

    channel.basic_publish("", invoices, b"a mistake")
    channel.tx_rollback()
    show("after the rollback")

"""The states of a connection that is open.

running    frames are taken
closing    what it held goes back, and the close or close-ok that follows is answered; everything but
           connection.close and connection.close-ok is ignored (AMQP 0-9-1, connection.close)
closed     nothing is taken any more, and nothing written
"""

from typing import Final

RUNNING: Final = 0
CLOSING: Final = 1
CLOSED: Final = 2

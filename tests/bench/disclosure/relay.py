"""A long cable: every Ethernet frame that comes in on one side goes out on the other, MS milliseconds later, but for LOSS
in a hundred, which are lost."""

import collections
import random
import select
import socket
import sys
import time

EVERY_PROTOCOL = 3

sides = []
for name in sys.argv[1:3]:
    side = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    side.bind((name, EVERY_PROTOCOL))
    side.setblocking(False)
    sides.append(side)
delay, loss = int(sys.argv[3]) / 1000, int(sys.argv[4]) / 100
under_way = [collections.deque(), collections.deque()]

while True:
    now = time.monotonic()
    for queue, out in zip(under_way, reversed(sides)):
        while queue and queue[0][0] <= now:
            try:
                out.send(queue.popleft()[1])
            except OSError:
                pass  # a full or closed side loses frames, as a cable does
    due = [queue[0][0] for queue in under_way if queue]
    ready, _, _ = select.select(sides, [], [], max(0, min(due) - time.monotonic()) if due else None)
    for side in ready:
        try:
            while True:
                frame, address = side.recvfrom(65535)
                if address[2] != socket.PACKET_OUTGOING and random.random() >= loss:
                    under_way[sides.index(side)].append((time.monotonic() + delay, frame))
        except BlockingIOError:
            pass

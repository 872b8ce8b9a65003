#!/usr/bin/python3
# Opens COUNT connections to ADDRESS PORT, 4,000 a second at most, tries others for those that do not come about, says how many those were, and keeps the rest until its
# standard input ends.
import resource
import socket
import sys
import time

# As many clients would, not one program: what a burst needs for a moment is not what a connection that does nothing needs.
AT_A_TIME, PAUSE_SECONDS = 100, 0.025

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held, failed = [], []
while len(held) < count:
    connection = socket.socket()
    connection.settimeout(0.2)
    try:
        connection.connect((address, port))
        held.append(connection)
        if len(held) % AT_A_TIME == 0:
            time.sleep(PAUSE_SECONDS)
    except OSError as error:
        failed.append(connection)  # kept, so that its port is not tried again
        if len(failed) > count:
            raise SystemExit(f"{len(failed)} connections failed, the last one: {error}") from error
print(len(failed), flush=True)
sys.stdin.read()

"""A rank that is cut off from the head ends by itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing

from stdcl.launch.cut_off import HeadWatch, answers


def test_a_head_that_answers_now_and_then_is_there() -> None:
    replies, clock = [True, False, False, True, False, False, False], [0.0]
    watch = HeadWatch(lambda: replies.pop(0), 10.0, lambda: clock[0])
    found = []
    while replies:
        clock[0] += 4.0
        found.append(watch.is_gone())
    assert found == [False] * 6 + [True], "12 s after the last answer"


def test_answers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
    assert not answers(address)


def test_the_process_ends_while_its_work_hangs() -> None:
    code = (
        "import time\nfrom stdcl.launch import cut_off\ncut_off.INTERVAL = 0.05\n"
        "with cut_off.leaving_when_cut_off('127.0.0.1:1', 0.2):\n    time.sleep(3600)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "the head at 127.0.0.1:1 has not answered for 0.2 s: this rank ends\n"

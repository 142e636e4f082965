"""`python tied.py PID COMMAND...`: run the command so that the kernel kills it when process PID, which starts
it, ends (Linux). Nothing runs if that has ended already."""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this one is gone")
    os.execv(sys.argv[2], sys.argv[2:])

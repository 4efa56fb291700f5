"""Laws of memory that is kept: blocks come back without new pages, where glibc gives them."""

import platform
import subprocess
import sys

import pytest

from taming.training import memory

PROGRAM = """
import resource
from taming.training.memory import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    before = faults()
    b"x" * (64 << 20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_block_that_was_freed_comes_back_without_new_pages() -> None:
    def second_time(call: str) -> int:
        program = PROGRAM.format(call=call)
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        return int(run.stdout)

    kept, returned = second_time("keep_freed_memory()"), second_time("")
    assert kept < 100
    assert returned > 10 * kept


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory, "ctypes", None)
    assert not memory.keep_freed_memory()

"""The tests pass however they are started."""

import subprocess
import sys

import pytest

BEHIND_A_SHELL_THAT_IGNORES = """
import signal, sys
import pytest
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(pytest.main(["-n", "0", "-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    "test",
    [
        "tests/actors/test_system.py::test_an_interrupt_signal_ends_the_program_in_order",
        "tests/gateway/demo/test_stage.py::test_a_killed_demo_leaves_no_process_and_no_file[1]",
    ],
)
def test_tests_of_signals_pass_in_the_background_and_under_nohup(test: str) -> None:
    command = [sys.executable, "-c", BEHIND_A_SHELL_THAT_IGNORES, test]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert "1 passed" in ran.stdout, ran.stdout

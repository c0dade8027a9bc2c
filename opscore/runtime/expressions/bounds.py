"""What one expression may cost: its text, its tree, and the steps of its evaluation.

Steps are counted, not timed: a run that is played again comes to the same end on any machine. A step is one operation
of the tree, or as much of a longer one as takes about as long: 0.1 to 0.3 µs. All of them take less
than 30 ms, whatever they are spent on.
"""

from typing import Final

from opscore.runtime.errors import ExpressionExhausted

EXPRESSION_CHARACTERS_MAX: Final = 2_048
TEMPLATE_CHARACTERS_MAX: Final = 8_192
"""Of all expressions in one template together: reading one takes up to 5 µs a character."""
NODES_MAX: Final = 500
"""Operations, names, constants and fields in one expression."""
DEPTH_MAX: Final = 32
"""How deep they stand within one another; the parser itself goes no deeper."""
STEPS_MAX: Final = 100_000
"""Of one evaluation; the expressions of a template share them."""
ITEMS_MAX: Final = 10_000
"""Items or names that a macro walks, and items of a list that an expression makes."""
TEXT_CHARACTERS_MAX: Final = 256 * 1024
"""Of a text that an expression makes."""
RESULT_BYTES_MAX: Final = 256 * 1024
"""Of a result, as JSON; the expressions of a template share them."""
PATTERN_CHARACTERS_MAX: Final = 500
"""Of a regular expression."""

CHARACTERS_A_STEP: Final = 512
"""Characters that are copied or compared in the time of a step."""


class Budget:
    """What is left of the steps, and of the bytes of the result."""

    __slots__ = ("_bytes", "_steps")

    def __init__(self, *, steps: int = STEPS_MAX, result_bytes: int = RESULT_BYTES_MAX) -> None:
        self._steps = steps
        self._bytes = result_bytes

    def spend(self, steps: int) -> None:
        """Take some steps.

        Raises:
            ExpressionExhausted: fewer are left.
        """
        self._steps -= steps
        if self._steps < 0:
            raise ExpressionExhausted(f"it takes more than {STEPS_MAX:,} steps; read or walk less")

    def spend_text(self, characters: int) -> None:
        """Take the steps of copying or comparing so much text."""
        self.spend(1 + characters // CHARACTERS_A_STEP)

    def spend_result(self, size: int) -> None:
        """Take some bytes of the result.

        Raises:
            ExpressionExhausted: fewer are left.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise ExpressionExhausted(f"a result has at most {RESULT_BYTES_MAX:,} bytes as JSON")

"""The bounds of an expression: of its text, its tree, and the steps of its evaluation.

Steps are counted, not timed, so that an evaluation has the same outcome on any machine. A step is one operation of the
tree, or the part of a longer operation that takes as long: 0.1 to 0.3 µs. All `STEPS_MAX` steps take less than 30 ms,
whatever they are spent on.
"""

from typing import Final

from opscore.runtime.errors import ExpressionExhausted

EXPRESSION_CHARACTERS_MAX: Final = 2_048
TEMPLATE_CHARACTERS_MAX: Final = 8_192
"""Characters of all expressions in one template together; parsing takes up to 5 µs a character."""
NODES_MAX: Final = 500
"""Operations, names, constants and fields in one expression."""
DEPTH_MAX: Final = 32
"""Levels to which these nest; the parser itself goes no deeper."""
STEPS_MAX: Final = 100_000
"""Steps of one evaluation; the expressions of a template share them."""
ITEMS_MAX: Final = 10_000
"""Items or names that a macro goes over, and items of a list that an expression makes."""
TEXT_CHARACTERS_MAX: Final = 256 * 1024
"""Characters of a text that an expression makes."""
RESULT_BYTES_MAX: Final = 256 * 1024
"""Bytes of a result as JSON; the expressions of a template share them."""
PATTERN_CHARACTERS_MAX: Final = 500
"""Characters of a regular expression."""

CHARACTERS_A_STEP: Final = 512
"""Characters that are copied or compared in the time of a step."""


class Budget:
    """The steps, and the bytes of the result, that an evaluation has left."""

    __slots__ = ("_bytes", "_steps")

    def __init__(self, *, steps: int = STEPS_MAX, result_bytes: int = RESULT_BYTES_MAX) -> None:
        self._steps = steps
        self._bytes = result_bytes

    def spend(self, steps: int) -> None:
        """Spend some steps.

        Raises:
            ExpressionExhausted: fewer are left.
        """
        self._steps -= steps
        if self._steps < 0:
            raise ExpressionExhausted(f"it takes more than {STEPS_MAX:,} steps; read less, or go over fewer items")

    def spend_text(self, characters: int) -> None:
        """Spend the steps to copy or compare so much text."""
        self.spend(1 + characters // CHARACTERS_A_STEP)

    def spend_result(self, size: int) -> None:
        """Spend some bytes of the result.

        Raises:
            ExpressionExhausted: fewer are left.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise ExpressionExhausted(f"a result has at most {RESULT_BYTES_MAX:,} bytes as JSON")

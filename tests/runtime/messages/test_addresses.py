"""How actors are named."""

from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from opscore.runtime.messages.addresses import child_name


@settings(deadline=None, max_examples=300)
@given(identity=st.text(min_size=1) | st.text(alphabet="abcXYZ019_.~:@- /%", min_size=1))
@example(identity="ses_01jdcz0123456789")
@example(identity="name\n")
def test_an_id_as_a_name_is_quoted_wherever_it_is_none_already(identity: str) -> None:
    assert child_name(identity) == quote(identity, safe=":@ ")
    assert "/" not in child_name(identity)

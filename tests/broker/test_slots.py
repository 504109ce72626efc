"""Keys and their slots: what may go to a cluster in one call."""

from __future__ import annotations

import pytest

from sandboxq.broker.connect.servers import refuse_other_slot, slot_of_command, slot_of_key
from sandboxq.errors import UsageError


def test_slots_are_those_of_the_specification() -> None:
    """A wrong slot would cost a MOVED for every command."""
    assert slot_of_key("{123456789}") == 0x31C3
    assert slot_of_key(b"{bull}:q:wait") == slot_of_key("{bull}:other:5:lock") == 9263
    assert slot_of_key("bull:{q}:{5}") == slot_of_key("{q}")


@pytest.mark.parametrize("key", ["bull:q:", "{}bull:q:", "{bull:q:", "}bull{:q:"])
def test_a_key_without_a_tag_is_refused_with_what_to_write(key: str) -> None:
    """Its queue would be spread over the cluster, and no script could see it whole."""
    with pytest.raises(UsageError, match=r"hash tag.*--prefix '\{bull\}'.*Node"):
        slot_of_key(key)


def test_keys_are_found_in_every_kind_of_command() -> None:
    """The key is not always the first argument."""
    slot = slot_of_key("{a}")
    assert slot_of_command(("HGET", "{a}:q:1", "{b}")) == slot
    assert slot_of_command(("EVALSHA", "sha", 2, "{a}:q:", "{a}:r:", "{b}")) == slot
    assert slot_of_command(("XREAD", "BLOCK", 5, "STREAMS", "{a}:q:events", "$")) == slot
    assert slot_of_command(("XINFO", "STREAM", "{a}:q:events")) == slot
    assert slot_of_command(("PING",)) is None


def test_keys_of_two_slots_are_refused_before_anything_is_sent() -> None:
    """Redis would refuse too, but perhaps in the middle of a script."""
    with pytest.raises(UsageError, match="different slots"):
        slot_of_command(("EVALSHA", "sha", 2, "{a}:q:", "{b}:q:"))
    with pytest.raises(UsageError, match="different slots"):
        refuse_other_slot("bull:{a}:", "bull:{b}:")

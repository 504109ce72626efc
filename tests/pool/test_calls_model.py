"""Every call is in one place, moves along the arrows that there are, and ends once."""

# ruff: noqa: D401 - each rule says what holds
from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandboxq.pool.calls import Call, Calls, CallState
from sandboxq.pool.children.child import Child
from sandboxq.pool.options import PoolOptions
from sandboxq.sandbox.policy import policy_from
from sandboxq.sandbox.support import whole_machine

_CHILDREN = 3
_child = st.integers(0, _CHILDREN - 1)


class _Owner:
    """Hears children that say nothing: no process is behind them."""

    def on_message(self, *_: object) -> None:
        """Never called."""

    on_answers = on_readable = on_shut = on_lines = on_last_words = on_message


class Machine(RuleBasedStateMachine):
    """Compares with lists."""

    @initialize()
    def begin(self) -> None:
        """Make the children's near sides."""
        self.loop = asyncio.new_event_loop()
        terms = PoolOptions("none", "q", 1, policy_from("none"), whole_machine())
        self.children = [
            Child(number, self.loop, owner=_Owner(), terms=terms, memory=None)
            for number in range(_CHILDREN)
        ]
        self.calls = Calls()
        self.reserve: list[Call] = []
        self.sent: list[list[Call]] = [[] for _ in self.children]
        self.ended: list[Call] = []
        self.given: list[Call] = []
        self.now = 0.0

    @rule(count=st.integers(0, 5))
    def put(self, count: int) -> None:
        """New ones go behind all others, and so do those that were given up before."""
        again, self.given = self.given[:count], self.given[count:]
        new = [*again, *(Call(b"key", b"") for _ in range(count))]
        self.now += 1
        self.calls.put(new, self.now)
        self.reserve += new

    @rule(child=_child, data=st.data())
    def send(self, child: int, data: st.DataObject) -> None:
        """The oldest go first."""
        count = data.draw(st.integers(0, len(self.reserve)))
        sent = self.calls.send(self.children[child], count, self.now)
        assert sent == self.reserve[:count]
        del self.reserve[:count]
        self.sent[child] += sent

    @precondition(lambda self: any(self.sent))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Any, in any order: an event loop answers so."""
        child = data.draw(st.sampled_from([n for n, sent in enumerate(self.sent) if sent]))
        call = data.draw(st.sampled_from(self.sent[child]))
        assert self.calls.answer(self.children[child], call.seq) is call
        self.sent[child].remove(call)
        self.ended.append(call)

    @rule(child=_child, seq=st.integers(0, 100))
    def answer_what_is_not_there(self, child: int, seq: int) -> None:
        """A second answer, and one to another child's call, are answers to nothing."""
        if seq not in {call.seq for call in self.sent[child]}:
            assert self.calls.answer(self.children[child], seq) is None

    @rule(child=_child, data=st.data())
    def take_back(self, child: int, data: st.DataObject) -> None:
        """Each goes to the place that its age gives it."""
        calls = (
            data.draw(st.lists(st.sampled_from(self.sent[child]), unique=True))
            if (self.sent[child])
            else []
        )
        self.calls.take_back(self.children[child], calls)
        for call in calls:
            self.sent[child].remove(call)
        self.reserve = sorted([*calls, *self.reserve], key=lambda call: call.number)

    @rule(child=_child)
    def begin_first(self, child: int) -> None:
        """The clock of a call runs once it is first in its child."""
        if self.sent[child] and self.sent[child][0].state is CallState.SENT:
            self.calls.begin(self.sent[child][0], self.now)

    @rule(child=_child)
    def drop(self, child: int) -> None:
        """What a dead child had has ended."""
        assert self.calls.drop(self.children[child]) == self.sent[child]
        self.ended += self.sent[child]
        self.sent[child] = []

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Only what no child has is removed."""
        everything = [*self.reserve, *sum(self.sent, []), *self.ended]  # noqa: RUF017 - a few
        if everything:
            call = data.draw(st.sampled_from(everything))
            is_reserved = call in self.reserve
            assert self.calls.remove(call) is is_reserved
            if is_reserved:
                self.reserve.remove(call)
                self.ended.append(call)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The oldest, and no others."""
        before = data.draw(st.floats(0, self.now))
        given = [call for call in self.reserve if call.submitted_at <= before]
        assert self.calls.give_up(before) == given
        self.reserve = [call for call in self.reserve if call.submitted_at > before]
        self.given += given

    @rule(data=st.data())
    def a_second_end_is_refused(self, data: st.DataObject) -> None:
        """What has ended is put nowhere again."""
        if self.ended:
            with pytest.raises(AssertionError):
                self.calls.put([data.draw(st.sampled_from(self.ended))], self.now)

    @invariant()
    def agrees(self) -> None:
        """What the model says, and nothing else, is where the model says."""
        if not hasattr(self, "calls"):
            return
        assert list(self.calls.waiting) == self.reserve
        assert all(call.state is CallState.RESERVED for call in self.reserve)
        for child, sent in zip(self.children, self.sent, strict=True):
            assert list(child.flying.values()) == sent
            assert all(child.flying[call.seq] is call for call in sent)
            assert all(call.state in (CallState.SENT, CallState.BEGUN) for call in sent)
        assert all(call.state is CallState.ENDED for call in self.ended)
        assert all(call.state is CallState.NEW for call in self.given)
        assert self.calls.held == len(self.reserve) + sum(map(len, self.sent))

    def teardown(self) -> None:
        """Close what was opened."""
        for child in getattr(self, "children", []):
            child.close()
        if hasattr(self, "loop"):
            self.loop.close()


TestCalls = Machine.TestCase
TestCalls.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)

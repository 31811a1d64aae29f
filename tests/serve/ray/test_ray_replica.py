"""The board of what is given up, and a replica that does not come up, without Ray around them."""

import asyncio
import json

import pytest

from sd2rt.serve import ray_replica
from sd2rt.serve.ray_replica import NOT_UP, Board, Replica


def test_a_batch_hears_of_its_own_tasks_alone() -> None:
    async def scene() -> None:
        board = Board()
        await board.give_up("early")
        assert await board.next(["early", "late"], []) == ["early"]
        answer = asyncio.create_task(board.next(["early", "late"], ["early"]))
        await board.give_up("stranger")
        await asyncio.sleep(0)
        assert not answer.done()
        await board.give_up("late")
        assert await answer == ["early", "late"]

    asyncio.run(asyncio.wait_for(scene(), 5))


def test_what_nobody_waits_for_is_given_up() -> None:
    async def scene() -> None:
        board = Board()
        answer = asyncio.create_task(board.next(["one", "two"], []))
        await asyncio.sleep(0)
        await board.forget(["one", "two"])
        assert await answer == ["one", "two"]
        await board.forget(["never seen"])

    asyncio.run(asyncio.wait_for(scene(), 5))


def test_tasks_forgotten_before_their_replica_asks_are_not_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_replica, "MOST_ENDED", 2)

    async def scene() -> None:
        board = Board()
        for name in ("oldest", "old", "new"):
            await board.give_up(name)
            await board.forget([name])
        assert await board.next(["new", "other"], []) == ["new"]
        assert await board.next(["old"], []) == ["old"]
        assert await board.next(["old"], ["old"]) == ["old"]  # and nobody waits for ever
        answer = asyncio.create_task(board.next(["oldest"], []))
        await asyncio.sleep(0)
        assert not answer.done()  # it is not remembered for ever
        await board.forget(["oldest"])
        assert await answer == ["oldest"]

    asyncio.run(asyncio.wait_for(scene(), 5))


def test_who_paints_what_is_asked_for_is_ended_once_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(ray_replica, "kill_actor", ended.append)

    async def scene() -> None:
        board = Board()
        await board.take(["one", "two"], "first")
        await board.take(["three"], "second")
        await board.take(["four"], "third")
        await board.forget(["four"])
        answer = asyncio.create_task(board.next(["one", "two"], []))
        await asyncio.sleep(0)
        await board.end(["one", "two", "four", "never seen"])
        assert await answer == ["one", "two"]
        await board.end(["one", "two"])

    asyncio.run(asyncio.wait_for(scene(), 5))
    assert ended == ["first"]


@pytest.mark.parametrize("let_go", ["end", "forget"])
def test_a_replica_that_signs_after_the_end_is_told_and_not_kept(let_go: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_replica, "kill_actor", lambda painter: None)

    async def scene() -> None:
        board = Board()
        await getattr(board, let_go)(["1/one", "1/two"])
        await board.take(["1/one", "1/two"], "late")
        assert await board.next(["1/one", "1/two"], []) == ["1/one", "1/two"]
        assert (board._painters, board._watched) == ({}, {})
        await board.take(["2/one"], "the next")
        assert board._painters == {"2/one": "the next"}

    asyncio.run(asyncio.wait_for(scene(), 5))


def test_a_replica_whose_first_model_cannot_be_opened_says_why() -> None:
    setup = json.dumps({"models": {"none": "/no/such/folder"}})
    with pytest.raises(RuntimeError, match=f"^{NOT_UP}.*no model '/no/such/folder'"):
        Replica(setup, board=None)

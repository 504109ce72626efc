"""The verdict finds what was planted: a harness that says `ok` to everything is worth nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.backends import Backend
from tests.chaos.campaigns import ALL
from tests.chaos.scene import Scene, wait_until_drained
from tests.chaos.verdict import Verdict, judge
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_planted_is_found(tmp_path: Path) -> None:
    """Jobs lost, stuck, in two places, run or ended twice; what was left behind."""
    campaign = ALL["peace"]
    with Backend(tmp_path / "redis", campaign) as backend:
        scene = Scene(campaign, backend, tmp_path, seed=1)
        try:
            scene.start()
            wait_until(lambda: len(scene.usage_recorder().acknowledged) > 60, timeout=60)
            scene.stop_producers()
            verdict = Verdict("planted", drained=wait_until_drained(scene, 60))
            ended = scene.stop_workers()
            _plant(scene)
            judge(scene, verdict, ended)
        finally:
            scene.kill_all()
    assert verdict.violations.keys() == {
        "ended not once, as events tell",
        "id without a job",
        "left-over key",
        "lost",
        "more starts than ats",
        "run again without a cause",
        "stalled, though no worker was gone",
        "stalls miscounted",
        "stuck, or in two places",
        "temporary file left over",
        "value of another",
    }, verdict.violations
    assert (verdict.lost, verdict.stuck, verdict.without_cause) == (1, 2, 3)


def _plant(scene: Scene) -> None:
    entries = scene.usage_recorder().acknowledged
    quiet = [each for each in entries.items() if each[1].kind in {"nap", "once", "noop", "prio"}]
    (_, lost), (_, stuck), (_, twice), (u, _), (_, ended), (_, stalled), (_, wrong) = quiet[:7]
    base = scene.base
    with scene.client() as client:
        client.delete(base + lost.job_id)
        client.zrem(base + "completed", lost.job_id, stuck.job_id)
        client.lpush(base + "active", stuck.job_id)
        client.lpush(base + "wait", twice.job_id, "nobody")
        client.set(base + stuck.job_id + ":lock", "token")
        client.xadd(base + "events", {"event": "completed", "jobId": ended.job_id})
        client.xadd(base + "events", {"event": "stalled", "jobId": stalled.job_id})
        client.hset(base + stalled.job_id, "stc", 2)
        client.hset(base + wrong.job_id, "returnvalue", '{"u":"another"}')
    with scene.runs.open("a") as file:
        file.write(f"S {u} 1 1 1.0\n" * 3)
    (scene.temporary / "left").touch()

"""One campaign from beginning to end."""

from __future__ import annotations

import random
import threading
import time
import traceback
from typing import TYPE_CHECKING

from sandboxq.errors import QueueError
from tests.chaos.backends import BACKENDS
from tests.chaos.scene import Scene, wait_until_drained
from tests.chaos.verdict import Verdict, judge, judge_descriptors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.campaigns import Campaign
    from tests.chaos.faults import Fault


def run(campaign: Campaign, folder: Path, *, seed: int, seconds: float | None = None) -> Verdict:
    """Run it for ``seconds``, or for its own time, wait for the rest, and judge.

    Raises:
        NotHere: this machine lacks what it needs.

    """
    with BACKENDS[campaign.backend](folder / "redis", campaign) as backend:
        scene = Scene(campaign, backend, folder, seed=seed)
        try:
            scene.start()
            _inject(scene, campaign.seconds if seconds is None else seconds)
            scene.fill_up()
            scene.stop_producers()
            drained = wait_until_drained(scene, campaign.drain)
            verdict = Verdict(campaign.name, drained=drained)
            judge_descriptors(scene, verdict)
            judge(scene, verdict, scene.stop_workers())
            return verdict
        finally:
            scene.kill_all()


def _inject(scene: Scene, seconds: float) -> None:
    """Let each fault come again and again in a thread of its own, all from the scene's seed."""
    threads = [
        threading.Thread(target=_repeat, args=(scene, fault, random.Random(f"{scene.seed} {i}")))
        for i, fault in enumerate(scene.campaign.faults)
    ]
    for thread in threads:
        thread.start()
    scene.over.wait(seconds)
    scene.over.set()
    for thread in threads:
        thread.join(120)


def _repeat(scene: Scene, fault: Fault, rng: random.Random) -> None:
    scene.pause(rng.uniform(0, fault.every))
    while not scene.over.is_set():
        began = time.monotonic()
        try:
            name = fault.inject(scene, rng)
        except QueueError:
            name = ""  # Redis was away for whoever did it, or the job had ended
        except Exception:  # noqa: BLE001 - told in the table; the campaign goes on
            traceback.print_exc()
            name = f"{fault.inject.__name__} raised"
        if name:
            scene.faults[name] += 1
        scene.pause(max(0.01, fault.every - (time.monotonic() - began)))

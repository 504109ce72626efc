"""examples/video: a clip goes through in pieces, and no frame is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxq import Queue
from tests.examples.programs import embedded_url, finished, program

ffmpeg = pytest.importorskip("imageio_ffmpeg")

EXAMPLE = Path(__file__).parents[2] / "examples" / "video"
SECONDS = 6
FRAMES = 25 * SECONDS


@pytest.mark.timeout(180)
def test_a_clip_in_pieces(tmp_path: Path) -> None:
    """Two pieces, joined: as many frames as before, in another size; what is no video fails."""
    clip, small = tmp_path / "clip.mp4", tmp_path / "small.mp4"
    (tmp_path / "text.mp4").write_text("no video")
    with program(tmp_path, "sandboxq", "run", str(EXAMPLE / "videos.py"), "--procs", "2"):
        finished(tmp_path, EXAMPLE / "clip.py", clip.name, str(SECONDS))
        said = finished(tmp_path, EXAMPLE / "small.py", clip.name, small.name, "160").splitlines()
        with Queue.sync("videos", embedded_url(tmp_path)) as queue:
            broken = queue.add(
                "convert",
                {"src": str(tmp_path / "text.mp4"), "dst": str(tmp_path / "no.mp4"), "width": 160},
            )
            with pytest.raises(Exception, match="ffmpeg ended with"):
                broken.result(timeout=60)
            pieces = [job for job in queue.get_jobs("completed") if job.name == "transcode"]
            log = broken.logs()

    *percent, last = said
    assert last == "small.mp4: made of 2 pieces"
    assert percent == sorted(percent, key=lambda line: int(line.split()[0]))
    assert [job.progress for job in pieces] == [100, 100]
    assert ffmpeg.count_frames_and_secs(clip)[0] == ffmpeg.count_frames_and_secs(small)[0] == FRAMES
    assert next(ffmpeg.read_frames(small))["size"] == (160, 120)
    assert not Path(f"{small}.pieces").exists()
    assert "Invalid data" in " ".join(log)

"""Makes a clip to try the example with: `python clip.py FILE SECONDS`."""

import sys

from videos import run

if __name__ == "__main__":
    file, seconds = sys.argv[1:]
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=640x480:rate=25:duration={seconds}")
    sound = ("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}")
    run(*picture, *sound, "-g", "25", "-c:v", "libx264", "-preset", "veryfast", file)

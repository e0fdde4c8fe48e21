"""`script/sample-hashes`: two commits can be compared by what the server sends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.checkpoint_fixture import SKIP_REASON
from wyoming_chatterbox.engine.requirements import is_installed
from wyoming_chatterbox.testing.serving import ROOT, environment


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not is_installed(), reason=SKIP_REASON)
def test_every_edge_sends_the_same_samples_and_a_cloned_voice_others() -> None:
    words = [sys.executable, str(ROOT / "script" / "sample-hashes"), "--only", "exact"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split(maxsplit=3) for line in done.stdout.splitlines() if line.endswith("samples")]
    edges = [rest.rsplit(maxsplit=2)[0].strip() for *_, rest in rows]
    assert edges == ["wyoming plain", "wyoming streaming", "http pcm", "websocket"] * 2
    assert all(int(rest.split()[-2]) > 24_000 for *_, rest in rows), "more than a second"
    hashes = {voice: {digest for digest, _, name, _ in rows if name == voice} for voice in ("default", "cloned")}
    assert [len(digests) for digests in hashes.values()] == [1, 1], "each voice sounds the same through every edge"
    assert hashes["default"] != hashes["cloned"]

"""A quarantine outlasts the daemon, and ends when what was quarantined is no more."""

from pathlib import Path

from tests.support.server import Server

CONFIG = """
guide = false
[models.liar]
backend = "fake"
script = "lie=1"
[models.other]
backend = "fake"
"""


def test_a_liar_stays_in_quarantine_until_it_is_another_model(tmp_path: Path) -> None:
    """After a restart nothing of it is loaded and the reason is told; with other settings it is a model like any."""
    server = Server(tmp_path, CONFIG).ready()
    first = server.until(lambda: server.machine("model:liar"), lambda found: found["state"] == "quarantined")
    assert server.stop() == 0
    again = Server(tmp_path, CONFIG).ready()
    found = again.machine("model:liar")
    assert (found["state"], found["facts"].get("pid")) == ("quarantined", None)
    status, body = again.post("/v1/chat/completions", {"model": "liar", "messages": [{"role": "user", "content": "x"}]})
    assert status == 503
    assert first["reason"] in body["error"]["message"]
    assert again.stop() == 0
    changed = Server(tmp_path, CONFIG.replace("lie=1", "step=0.001")).ready()
    changed.loaded("liar")
    assert changed.stop() == 0


def test_an_admin_who_fixed_it_releases_it_for_good(tmp_path: Path) -> None:
    """`lmx load` tries it at once; what fails again is quarantined again, also for the next start."""
    server = Server(tmp_path, CONFIG).ready()
    server.until(lambda: server.machine("model:liar")["state"], lambda state: state == "quarantined")
    status, body = server.post("/admin/models/liar/load", {})
    assert status == 503, body
    assert "different greedy answers" in str(body)
    assert server.stop() == 0
    again = Server(tmp_path, CONFIG).ready()
    assert again.machine("model:liar")["state"] == "quarantined"
    assert again.stop() == 0

"""A/B behind one service: who is given what, what is written, and the stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.bundles import pictures
from typer.testing import CliRunner

from niwaki.cli.main import app
from niwaki.serving.trial.log import read_log
from niwaki.serving.trial.plan import TrialPlan
from niwaki.serving.trial.trial import Trial
from niwaki_runtime.errors import CallError, NiwakiError

KEY = "00" * 16


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of lines are written here; that a line is on the disk is `test_durable_log`'s."""
    monkeypatch.setattr("os.fsync", lambda file: None)


def served(server: Any, user: str | None, **more: Any) -> str:
    headers = {} if user is None else {"X-User": user}
    answered = server.client.post("/v1/run/sample", json={"seed": 1, **more}, headers=headers)
    assert answered.status_code == 200
    return str(answered.json()["model"])


def by_field(server: Any, user: str) -> str:
    """The user as OpenAI's clients name one."""
    return str(server.post("/v1/run/sample", seed=1, user=user).json()["model"])


@pytest.mark.parametrize(("share", "n"), [(0.5, 4000), (0.1, 4000), (0.97, 4000)])
def test_users_are_divided_by_a_draw_that_stays_and_follows_from_the_key(share: float, n: int) -> None:
    plan = TrialPlan("a", "b", share, key=KEY)
    arms = [plan.arm_of(plan.name_of(f"user {i}")) for i in range(n)]
    assert arms == [plan.arm_of(plan.name_of(f"user {i}")) for i in range(n)]
    error = np.sqrt(share * (1 - share) / n)
    assert arms.count("b") / n == pytest.approx(share, abs=4 * error)
    other = TrialPlan("a", "b", share, key="11" * 16)
    both = np.mean([a == other.arm_of(other.name_of(f"user {i}")) for i, a in enumerate(arms)])
    assert both == pytest.approx(share**2 + (1 - share) ** 2, abs=0.05)


def test_the_threshold_of_the_draw_is_exact() -> None:
    plan = TrialPlan("a", "b", 0.25, key=KEY)
    edge = (1 << 64) // 4
    assert plan.arm_of(f"{edge - 1:016x}" + "0" * 48) == "b"
    assert plan.arm_of(f"{edge:016x}" + "f" * 48) == "a"


@pytest.mark.parametrize("text", ["a", "a:a", "a:b:2", "a:b:x", "a:b:0", ":b"])
def test_what_is_no_trial_is_refused(text: str) -> None:
    with pytest.raises(CallError):
        TrialPlan.read(text).check(["a", "b"])


def test_a_user_stays_with_a_model_and_outcomes_are_written(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "ab.jsonl"
    bundles = [f"a={pictures(tmp_path / 'a.niwaki')}", f"b={pictures(tmp_path / 'b.niwaki', '2')}"]
    server = serving(bundles, ab="a:b:0.5", ab_log=log)
    models = {f"u{i}": served(server, f"u{i}") for i in range(24)}
    assert set(models.values()) == {"a", "b"}
    assert models == {user: by_field(server, user) for user in models}
    assert served(server, None) == "a"
    assert {served(server, user, model="b") for user in models} == {"b"}
    for user, model in models.items():
        answered = server.post("/v1/outcomes", user=user, value=float(model == "b"))
        assert answered.json() == {"written": True, "counted": True}
    assert server.post("/v1/outcomes", user="u0", value=0.5).json()["counted"] is False
    assert server.post("/v1/outcomes", user="u0", value=1.5).status_code == 400
    assert server.post("/v1/outcomes", value=1).status_code == 400
    text = log.read_text()
    assert '"u0"' not in text
    known = read_log(log)
    assert len(known.tally.outcome) == len(known.tally.request) == 24
    said = server.client.get("/v1/outcomes").json()
    assert said["outcome"]["n_b"] == list(models.values()).count("b")
    assert "key" not in json.dumps(said)
    assert (said["outcome"]["a"], said["outcome"]["b"]) == (0.0, 1.0)


def test_b_is_stopped_where_it_is_certainly_worse_and_stays_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = tmp_path / "ab.jsonl"
    trial = Trial(TrialPlan("old", "new", key=KEY), log)
    users = [f"user {i}" for i in range(3000)]
    for user in users:
        name, arm = trial.assign(user)
        trial.add_outcome(name, float(rng.random() < (0.7 if arm == "a" else 0.4)))
        if trial.stopped:
            break
    assert "outcomes are certainly worse" in trial.stopped
    assert {trial.assign(user)[1] for user in users} == {"a"}
    trial.close()
    again = Trial(TrialPlan("old", "new"), log)
    assert again.stopped == trial.stopped
    assert again.plan.key == KEY
    assert again.assign("user 1")[1] == "a"
    again.close()
    with pytest.raises(CallError, match="another trial"):
        Trial(TrialPlan("old", "new", 0.3), log)


@pytest.mark.parametrize("guard", ["errors", "slow", "withheld"])
def test_guardrails_stop_b(tmp_path: Path, guard: str) -> None:
    rng = np.random.default_rng(1)
    trial = Trial(TrialPlan("old", "new", key=KEY), tmp_path / "ab.jsonl")
    for i in range(4000):
        name, arm = trial.assign(f"user {i}")
        trial.add_request(name, {guard: float(rng.random() < (0.05 if arm == "a" else 0.4))})
        if trial.stopped:
            break
    trial.close()
    assert trial.stopped.startswith("certainly more ")


def test_equal_models_are_stopped_as_rarely_as_promised(tmp_path: Path) -> None:
    """20 trials of 400 users, looked at as often as the server looks: at level 0.05 three stops would be a
    surprise of 8 %, four one of 2 %."""
    stops = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        trial = Trial(TrialPlan("old", "new", level=0.05), tmp_path / f"{seed}.jsonl")
        for i in range(400):
            name, _ = trial.assign(f"user {i}")
            trial.add_outcome(name, float(rng.random() < 0.5))
        stops += bool(trial.stopped)
        trial.close()
    assert stops <= 3


def test_the_verb_says_where_a_trial_stands(tmp_path: Path) -> None:
    log = tmp_path / "ab.jsonl"
    rng = np.random.default_rng(2)
    trial = Trial(TrialPlan("old", "new", key=KEY), log)
    for i in range(1500):
        name, arm = trial.assign(f"user {i}")
        trial.add_outcome(name, float(rng.random() < (0.4 if arm == "a" else 0.7)))
    trial.close()
    with log.open("a") as file:
        file.write('{"kind": "outcome", "us')  # a line that a kill cut short
    picture = tmp_path / "ab.png"
    ran = CliRunner().invoke(app, ["watch", "--ab", str(log), "--picture", str(picture), "--json"])
    said = json.loads(ran.stdout)
    assert said["outcome"]["decision"] == "better"
    assert said["outcome"]["low"] > 0
    assert said["stopped"] == said["stop"] == ""
    assert picture.read_bytes()[:4] == b"\x89PNG"
    words = CliRunner().invoke(app, ["watch", "--ab", str(log)]).stdout
    assert "B is better, for certain" in words
    assert KEY not in words + ran.stdout
    for wrong, kind in ((tmp_path / "none", NiwakiError), (picture, CallError)):
        ran = CliRunner().invoke(app, ["watch", "--ab", str(wrong)])
        assert isinstance(ran.exception, kind)


def test_a_trial_of_a_model_that_is_not_served_is_refused(tmp_path: Path) -> None:
    path = pictures(tmp_path / "a.niwaki")
    ran = CliRunner().invoke(app, ["serve", f"a={path}", "--ab", "a:b", "--port", "0"])
    assert isinstance(ran.exception, CallError)
    assert "'b', which is not served" in str(ran.exception)

"""What listeners of a study hand over, without listeners."""

from __future__ import annotations

import json
from typing import Any

from tonemill.pipelines.survey.study import Study


def answers_to(study: Study, listener: int = 1, score: int = 3, **changes: Any) -> dict[str, Any]:
    """What the page hands over when all is answered alike; attention trials are obeyed."""
    order = study.plan["orders"][(listener - 1) % len(study.plan["orders"])]
    trials = [
        {
            **trial,
            "answers": dict.fromkeys(study.questions, trial.get("answer", score)),
            "ms": dict.fromkeys(study.questions, 4000),
            "rounds": 2.5,
            "seconds": 1.0,
            "changes": 0,
        }
        for trial in order
    ]
    record = {
        "tonemill_survey": 1,
        "study": study.digest,
        "session": f"00000000-0000-4000-8000-{listener:012d}",
        "listener": listener,
        "consent": {"digest": study.plan["consent_digest"], "at": "2026-01-01T00:00:00Z"},
        "facts": {"alias": "Ann", "age": "25 to 39"},
        "headphones": {"wears": "headphones"},
        "browser": "Chrome/1",
        "sample_rate": 16000,
        "latency_ms": 20,
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:10:00Z",
        "comment": "",
        "trials": trials,
    }
    return json.loads(json.dumps({**record, **changes}))
